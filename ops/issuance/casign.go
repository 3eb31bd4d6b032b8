package issuance

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
)

// Offline returns the CA at its own machine: certificate, key, rules and memory, no database.
func Offline(name string, certificate *x509.Certificate, key crypto.Signer, rules Rules, state *State, now time.Time) (*Authority, error) {
	issuer := db.Issuer{Name: name, Key: db.IssuerKey(certificate), Certificate: certificate.Raw, Policy: db.Policy{Profile: rules.Profile, CRLURL: rules.CRLURL}}
	return NewAuthority(issuer, certificate, key, rules, state, now)
}

// BundlePlan is what ca-sign would do with a bundle.
type BundlePlan struct {
	Keys   [][32]byte // by certificate: the SHA-256 of the site's key, which people compare
	Denied Denied     // what the deny list lacks

	denied Denied
	wishes []wish
}

// CheckBundle returns what would be done with a bundle, or its fault. None of its certificates may
// begin later than ahead from now.
func (a *Authority) CheckBundle(b *Bundle, ahead time.Duration, now time.Time) (*BundlePlan, error) {
	if err := b.check(a); err != nil {
		return nil, err
	}
	if err := a.Rules.agree(b.Profile, b.CRLURL); err != nil {
		return nil, fmt.Errorf("the bundle for issuer %q: %w", b.Issuer, err)
	}
	p := &BundlePlan{}
	var err error
	if p.denied, err = b.denied(); err != nil {
		return nil, err
	}
	l, err := a.State.read()
	if err != nil {
		return nil, err
	}
	p.Denied.Keys, p.Denied.Certificates = l.lacks(p.denied)
	for _, key := range p.Denied.Keys {
		l.keys[key] = true
	}
	for _, serial := range p.Denied.Certificates {
		l.certificates[string(serial)] = true
	}
	for i := range b.Certificates {
		w, err := a.wish(&b.Certificates[i], ahead, now)
		if err == nil {
			err = l.judge(w, a.longest(), now)
		}
		if err != nil {
			return nil, fmt.Errorf("judging certificate %s of site %q: %w", b.Certificates[i].Serial, b.Certificates[i].Site, err)
		}
		l.made[string(w.serial)] = signed{w.notAfter, w.request.KeyHash}
		p.Keys, p.wishes = append(p.Keys, w.request.KeyHash), append(p.wishes, w)
	}
	return p, a.CheckCRLs(b, ahead, now)
}

// wish reads one certificate of a bundle.
func (a *Authority) wish(c *BundledCert, ahead time.Duration, now time.Time) (w wish, err error) {
	if w.serial, err = db.ParseSerial(c.Serial); err != nil {
		return w, err
	}
	begin := c.NotBefore.Add(backdate)
	switch life := c.NotAfter.Sub(begin); {
	case len(w.serial) != certprofile.SerialLen:
		return w, errors.New("its serial is not of 16 octets")
	case life > a.longest():
		return w, fmt.Errorf("a life of %s: this CA allows %s at most (max_life)", life, a.longest())
	case begin.After(now.Add(ahead)):
		return w, fmt.Errorf("it begins at %s: this CA signs %s ahead at most", begin.Format(time.RFC3339), ahead)
	}
	w.notAfter = c.NotAfter
	w.request, err = a.prove(c.Site, []byte(c.Proof), now)
	return w, err
}

// SignBundle signs the certificates of the bundle, in the one fixed form: all or nothing. The deny
// list grows even if nothing is signed.
func (a *Authority) SignBundle(b *Bundle, ahead time.Duration, now time.Time, random io.Reader) error {
	if err := b.check(a); err != nil {
		return err
	}
	denied, err := b.denied()
	if err == nil {
		err = a.State.deny(denied)
	}
	if err != nil {
		return err
	}
	p, err := a.CheckBundle(b, ahead, now)
	if err != nil {
		return err
	}
	if len(p.wishes) > 0 {
		if err := a.State.take(p.wishes, a.longest(), now); err != nil {
			return err
		}
	}
	for i, w := range p.wishes {
		c := &b.Certificates[i]
		t, err := a.template(w.request, w.serial, c.NotBefore, c.NotAfter)
		if err != nil {
			return fmt.Errorf("signing certificate %s of site %q: %w", c.Serial, c.Site, err)
		}
		der, err := a.Sign(t, w.request, c.NotBefore.Add(backdate), random)
		if err != nil {
			return fmt.Errorf("signing certificate %s of site %q: %w", c.Serial, c.Site, err)
		}
		c.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return a.SignCRLs(b, ahead, now, random)
}

// admit says whether a key and its proof may have a certificate of this CA.
func (a *Authority) admit(r *Request, now time.Time) error {
	if err := a.agrees(); err != nil {
		return err
	}
	l, err := a.State.read()
	if err != nil {
		return err
	}
	return l.admit(r, a.longest(), now)
}

// Serials is the pool that a CA makes in advance: the master plans only with these.
type Serials struct {
	Form      string   `json:"form"`
	Issuer    string   `json:"issuer"`
	IssuerKey string   `json:"issuer_key"` // hex of db.Issuer.Key
	Serials   []string `json:"serials"`    // hex
}

// MakeSerials makes a pool of serials for the master. It needs no key.
func MakeSerials(issuer string, certificate *x509.Certificate, state *State, count int, random io.Reader) (Serials, error) {
	key := db.IssuerKey(certificate)
	pool := Serials{Form: SerialsForm, Issuer: issuer, IssuerKey: hex.EncodeToString(key[:])}
	serials, err := state.makeSerials(count, random)
	for _, serial := range serials {
		pool.Serials = append(pool.Serials, serial.String())
	}
	return pool, err
}

// Read checks that the pool is the issuer's and returns its serials.
func (s Serials) Read(issuer db.Issuer) ([]db.Serial, error) {
	switch {
	case s.Form != SerialsForm:
		return nil, fmt.Errorf("the file's form is %q: want %q (ocspctl ca-sign serials)", s.Form, SerialsForm)
	case s.IssuerKey != hex.EncodeToString(issuer.Key[:]):
		return nil, fmt.Errorf("the serials are another CA's (issuer %q)", s.Issuer)
	case len(s.Serials) > MaxSerials:
		return nil, fmt.Errorf("%d serials: want %d at most", len(s.Serials), MaxSerials)
	}
	var list []db.Serial
	for _, text := range s.Serials {
		serial, err := db.ParseSerial(text)
		if err == nil && len(serial) != certprofile.SerialLen {
			err = fmt.Errorf("serial %s is not of %d octets", serial, certprofile.SerialLen)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the serials: %w", err)
		}
		list = append(list, serial)
	}
	return list, nil
}
