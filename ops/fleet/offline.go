package fleet

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
)

// BundleForm is how a bundle says what it is.
const BundleForm = "ocspfleet ca-sign 1"

// Bundle is what travels to a CA that has no network, and back with the
// certificates filled in. It is no secret, and nothing in it is believed: the CA
// sees to the keys and the form, the master to what it had planned.
type Bundle struct {
	Form         string        `json:"form"`
	Issuer       string        `json:"issuer"`
	IssuerKey    string        `json:"issuer_key"` // hex of db.Issuer.Key
	Profile      db.Profile    `json:"profile"`
	CRLURL       string        `json:"crl_url"`
	Certificates []BundledCert `json:"certificates"`
	// Revoked and CRLs are a series of CRLs, which all name what is revoked.
	Revoked []BundledEntry `json:"revoked,omitempty"`
	CRLs    []BundledCRL   `json:"crls,omitempty"`
}

// BundledCert is one certificate of a series. Its serial is registered already.
type BundledCert struct {
	Site      string    `json:"site"`
	Serial    string    `json:"serial"` // hex
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Proof is a certificate request, or the site's last certificate, in PEM: the
	// CA's own signature stands for the key there.
	Proof       string `json:"proof"`
	Certificate string `json:"certificate"` // PEM; empty until it is signed
}

// PublicAuthority is an issuer's CA without its key: it can verify and plan.
func PublicAuthority(issuer db.Issuer, now time.Time) (*Authority, error) {
	certificate, err := x509.ParseCertificate(issuer.Certificate)
	if err == nil {
		err = CheckCA(certificate, now)
	}
	if err != nil {
		return nil, fmt.Errorf("taking up the CA of issuer %q: %w", issuer.Name, err)
	}
	return &Authority{Issuer: issuer, Certificate: certificate}, nil
}

// Series is how many certificates are asked for at once, and how they follow each
// other: each begins Every after the one before and lives Life.
type Series struct {
	Count       int
	Every, Life time.Duration
}

// maxSeries bounds a bundle per site.
const maxSeries = 60

func (s Series) check() error {
	switch {
	case s.Count < 1 || s.Count > maxSeries:
		return fmt.Errorf("a series of %d: want 1 to %d", s.Count, maxSeries)
	case s.Every <= backdate || s.Every > s.Life-backdate:
		return fmt.Errorf("one every %s with a life of %s: want more than %s, and each to begin %s before the last one ends", s.Every, s.Life, backdate, backdate)
	}
	return nil
}

// Plan draws up the series for one site. proof is a certificate request or the
// site's last certificate, PEM or DER.
func (a *Authority) Plan(site string, proof []byte, s Series, now time.Time, random io.Reader) ([]BundledCert, []db.Planned, error) {
	fail := func(err error) ([]BundledCert, []db.Planned, error) {
		return nil, nil, fmt.Errorf("planning certificates of site %q for issuer %q: %w", site, a.Issuer.Name, err)
	}
	if err := s.check(); err != nil {
		return fail(err)
	}
	r, err := a.prove(site, proof)
	if err != nil {
		return fail(err)
	}
	var list []BundledCert
	var rows []db.Planned
	for i := range s.Count {
		notBefore, notAfter, err := a.Span(s.Life, now.Add(time.Duration(i)*s.Every))
		if err != nil {
			return fail(err)
		}
		serial, err := newSerial(random)
		if err != nil {
			return fail(err)
		}
		list = append(list, BundledCert{Site: site, Serial: serial.String(), NotBefore: notBefore, NotAfter: notAfter, Proof: string(asPEM(proof))})
		rows = append(rows, db.Planned{IssuerID: a.Issuer.ID, Serial: serial, Site: site, KeyHash: r.KeyHash, NotBefore: notBefore, NotAfter: notAfter})
	}
	return list, rows, nil
}

// Bundle wraps planned certificates up for the CA.
func (a *Authority) Bundle(list []BundledCert) Bundle {
	return Bundle{
		Form: BundleForm, Issuer: a.Issuer.Name, IssuerKey: hex.EncodeToString(a.Issuer.Key[:]),
		Profile: a.Issuer.Policy.Profile, CRLURL: a.Issuer.Policy.CRLURL, Certificates: list,
	}
}

func asPEM(raw []byte) []byte {
	if block, _ := pem.Decode(raw); block != nil {
		return raw
	}
	kind := "CERTIFICATE"
	if _, err := x509.ParseCertificateRequest(raw); err == nil {
		kind = "CERTIFICATE REQUEST"
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

// prove finds the key of a site: by its request, or by the last certificate that
// this CA signed for it.
func (a *Authority) prove(site string, proof []byte) (*Request, error) {
	block, _ := pem.Decode(asPEM(proof))
	if block == nil || block.Type != "CERTIFICATE" {
		return ParseRequest(proof, site)
	}
	named, c, err := a.verify(block.Bytes)
	if err != nil {
		return nil, err
	}
	if named != site {
		return nil, fmt.Errorf("the last certificate is of site %q", named)
	}
	return &Request{Site: site, PublicKey: c.PublicKey, KeyHash: sha256.Sum256(c.RawSubjectPublicKeyInfo)}, nil
}

// LastProofs are the newest certificates of an active site that this CA signed, one for
// each kind of key that it has, DER; none: there is nothing to go by.
func (a *Authority) LastProofs(roster []db.Responder, site string, now time.Time) [][]byte {
	var last [][]byte
	for _, r := range Renewals(roster, []*Authority{a}, now) {
		if r.Site == site && r.Refused == "" {
			last = append(last, r.der)
		}
	}
	return last
}

// check refuses a bundle that is not for this CA.
func (b *Bundle) check(a *Authority) error {
	switch {
	case b.Form != BundleForm:
		return fmt.Errorf("the bundle's form is %q: want %q", b.Form, BundleForm)
	case b.IssuerKey != hex.EncodeToString(a.Issuer.Key[:]):
		return fmt.Errorf("the bundle is for another CA (issuer %q)", b.Issuer)
	case b.Profile != db.ProfileRevocable && b.Profile != db.ProfileBR:
		return fmt.Errorf("the bundle's profile is %q", b.Profile)
	}
	return nil
}

// Offline is the CA at its own machine: certificate and key, no database.
func Offline(name string, certificate *x509.Certificate, key crypto.Signer, b *Bundle, now time.Time) (*Authority, error) {
	issuer := db.Issuer{Name: name, Key: IssuerKey(certificate), Certificate: certificate.Raw, Policy: db.Policy{Profile: b.Profile, CRLURL: b.CRLURL}}
	a, err := NewAuthority(issuer, certificate, key, now)
	if err != nil {
		return nil, err
	}
	return a, b.check(a)
}

// Describe says of one certificate of a bundle what people compare: the SHA-256 of
// the site's key, after the proof was checked.
func (a *Authority) Describe(c BundledCert) (keyHash [32]byte, kind string, err error) {
	r, err := a.prove(c.Site, []byte(c.Proof))
	if err != nil {
		return keyHash, "", fmt.Errorf("certificate %s of site %q: %w", c.Serial, c.Site, err)
	}
	return r.KeyHash, r.Kind(), nil
}

// SignBundle signs what is in the bundle, by the one fixed form: all or nothing.
// No life may be above longest, none may begin later than ahead from now.
func (a *Authority) SignBundle(b *Bundle, longest, ahead time.Duration, now time.Time, random io.Reader) error {
	seen := map[string]bool{}
	for i := range b.Certificates {
		c := &b.Certificates[i]
		fail := func(err error) error {
			return fmt.Errorf("signing certificate %s of site %q: %w", c.Serial, c.Site, err)
		}
		serial, err := db.ParseSerial(c.Serial)
		if err != nil {
			return fail(err)
		}
		begin := c.NotBefore.Add(backdate)
		switch life := c.NotAfter.Sub(begin); {
		case len(serial) != serialLen || seen[c.Serial]:
			return fail(errors.New("its serial is not of 16 octets, or stands twice"))
		case life > min(longest, maxLifeOf(b.Profile)):
			return fail(fmt.Errorf("a life of %s: this CA allows %s at most", life, min(longest, maxLifeOf(b.Profile))))
		case begin.After(now.Add(ahead)):
			return fail(fmt.Errorf("it begins at %s: this CA signs %s ahead at most", begin.Format(time.RFC3339), ahead))
		}
		seen[c.Serial] = true
		r, err := a.prove(c.Site, []byte(c.Proof))
		if err != nil {
			return fail(err)
		}
		t, err := a.template(r, serial, c.NotBefore, c.NotAfter)
		if err != nil {
			return fail(err)
		}
		der, err := a.Sign(t, r, begin, random)
		if err != nil {
			return fail(err)
		}
		c.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return nil
}

// Release is what became of one certificate of a bundle that came back.
type Release struct {
	Site, Serial string
	NotBefore    time.Time
	Action       string // released, waiting, there, revoked
}

// Release puts those certificates of a signed bundle among the replicated rows
// whose time has come; without apply it only tells. Each must be, field for field,
// what was planned, and bear the CA's signature.
func (a *Authority) Release(ctx context.Context, store *db.Store, b *Bundle, apply bool, now time.Time, act db.Act) ([]Release, error) {
	if err := b.check(a); err != nil {
		return nil, err
	}
	planned, err := store.PlannedCertificates(ctx)
	if err != nil {
		return nil, err
	}
	var list []Release
	for _, c := range b.Certificates {
		one := Release{Site: c.Site, Serial: c.Serial, NotBefore: c.NotBefore}
		if one.Action, err = a.releaseOne(ctx, store, c, planned, apply, now, act); err != nil {
			return list, fmt.Errorf("releasing certificate %s of site %q: %w", c.Serial, c.Site, err)
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b Release) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), strings.Compare(a.Site, b.Site))
	})
	return list, nil
}

func (a *Authority) releaseOne(ctx context.Context, store *db.Store, c BundledCert, planned []db.Planned, apply bool, now time.Time, act db.Act) (string, error) {
	serial, err := db.ParseSerial(c.Serial)
	if err != nil {
		return "", err
	}
	status, err := store.Certificate(ctx, a.Issuer.ID, serial)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(planned, func(p db.Planned) bool { return p.IssuerID == a.Issuer.ID && bytes.Equal(p.Serial, serial) })
	switch {
	case status.Revoked():
		return "revoked", nil
	case at < 0:
		return "there", nil // released before: the plan forgets it then
	}
	block, _ := pem.Decode([]byte(c.Certificate))
	if block == nil {
		return "", errors.New("it is not signed yet: ocspctl ca-sign")
	}
	plan := planned[at]
	site, parsed, err := a.verify(block.Bytes)
	if err != nil {
		return "", err
	}
	if site != plan.Site || sha256.Sum256(parsed.RawSubjectPublicKeyInfo) != plan.KeyHash || !parsed.NotBefore.Equal(plan.NotBefore) ||
		!parsed.NotAfter.Equal(plan.NotAfter) || !bytes.Equal(db.SerialFromMagnitude(parsed.SerialNumber.Bytes(), false), serial) {
		return "", errors.New("it is not what was planned under this serial")
	}
	if faults := Lint(block.Bytes, a.Certificate, a.Issuer.Policy, plan.NotBefore.Add(backdate)); len(faults) > 0 {
		return "", errors.New(strings.Join(faults, "; "))
	}
	if plan.NotBefore.After(now) {
		return "waiting", nil
	}
	if !apply {
		return "released", nil
	}
	return "released", store.AddResponderCertificate(ctx, db.ResponderCertificate{
		Fingerprint: sha256.Sum256(block.Bytes), IssuerID: a.Issuer.ID, Serial: serial, Site: site, KeyHash: plan.KeyHash, DER: block.Bytes,
	}, act)
}
