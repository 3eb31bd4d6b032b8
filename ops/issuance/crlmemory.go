package issuance

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"ocspfleet/db"
)

// lastCRL is the last CRL that a CA signed for one scope. From it the CA itself knows which
// revocations a next one may omit.
type lastCRL struct {
	CRL string `json:"crl"` // PEM
	// Ends is when the certificates that it names end, by serial, as first reported and never
	// sooner.
	Ends map[string]time.Time `json:"ends"`
}

func (s *State) lastCRLs() (map[string]lastCRL, error) {
	all := map[string]lastCRL{}
	text, err := os.ReadFile(s.file("crl.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return all, nil
	case err == nil:
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the CA's last CRLs: %w", err)
	}
	return all, nil
}

// signCRLs signs CRLs with the same entries, and remembers the last of them.
func (a *Authority) signCRLs(list []CRLContent, random io.Reader) ([][]byte, error) {
	var signed [][]byte
	err := a.State.change(func(l *ledger) ([]string, error) {
		all, err := a.State.lastCRLs()
		if err != nil {
			return nil, err
		}
		next, err := a.judgeCRL(list[0], all, l)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			der, err := a.SignCRL(c, random)
			if err != nil {
				return nil, err
			}
			signed = append(signed, der)
		}
		next.CRL = string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: signed[len(signed)-1]}))
		all[list[0].URL] = next
		text, err := json.MarshalIndent(all, "", "  ")
		if err == nil {
			err = WritePrivate(a.State.file("crl.json"), text)
		}
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return signed, nil
}

// checkCRL says why a CRL must not be signed.
func (a *Authority) checkCRL(c CRLContent) error {
	l, err := a.State.read()
	if err != nil {
		return err
	}
	all, err := a.State.lastCRLs()
	if err == nil {
		_, err = a.judgeCRL(c, all, l)
	}
	return err
}

// judgeCRL compares a CRL with the CA's configuration and its last one of that scope. A permanent
// revocation stays until its certificate has ended; a hold may be removed. It returns what to
// remember of the new one.
func (a *Authority) judgeCRL(c CRLContent, all map[string]lastCRL, l *ledger) (next lastCRL, err error) {
	scope, err := a.Rules.scope()
	if err != nil {
		return next, err
	}
	if c.URL != scope {
		return next, fmt.Errorf("it would speak for the distribution point %q, this CA's configuration says %q", c.URL, scope)
	}
	last := all[scope]
	next.Ends = map[string]time.Time{}
	reasons := map[string]db.Reason{}
	for _, e := range c.Entries {
		serial := e.Serial.String()
		reasons[serial] = e.Status.Reason
		next.Ends[serial] = latest(e.Status.NotAfter, last.Ends[serial], l.made[string(e.Serial)].end)
	}
	if last.CRL == "" {
		return next, nil
	}
	block, _ := pem.Decode([]byte(last.CRL))
	if block == nil {
		return next, fmt.Errorf("%s: the CRL there is no PEM", a.State.file("crl.json"))
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return next, fmt.Errorf("reading the CA's last CRL: %w", err)
	}
	for _, old := range list.RevokedCertificateEntries {
		serial := db.SerialFromMagnitude(old.SerialNumber.Bytes(), old.SerialNumber.Sign() < 0)
		reason, named := reasons[serial.String()]
		end := latest(last.Ends[serial.String()], l.made[string(serial)].end)
		if db.Reason(old.ReasonCode) == db.ReasonCertificateHold || named && reason != db.ReasonCertificateHold || !named && end.Before(c.ThisUpdate) {
			continue
		}
		what := "is not named any more"
		if named {
			what = "is only on hold"
		}
		return next, fmt.Errorf("certificate %s, revoked for ever in the last CRL (number %s), %s, and ends only at %s: "+
			"the rows at the master are wrong, or two persons corrected them: then move %s away, once", serial, list.Number, what, end.UTC().Format(time.RFC3339), a.State.file("crl.json"))
	}
	return next, nil
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
