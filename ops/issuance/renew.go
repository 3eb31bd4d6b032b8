package issuance

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
)

// Alarm is the remaining part of a certificate's life at which staff must act: it is renewed at a
// half, so a sixth of its life has passed without success.
const Alarm = 1.0 / 3

// Renewal is the newest certificate of one site's key for one issuer, and whether it is due for
// renewal.
type Renewal struct {
	Site   string // from the certificate
	Issuer string
	Kind   string // of key
	Serial db.Serial
	// NotBefore and NotAfter are the certificate's, Left is the remaining part of its life: below
	// 0 it has ended.
	NotBefore, NotAfter time.Time
	Left                float64
	Due                 bool   // half of its life is over
	Refused             string // why it is not renewed; empty: it is renewed when due

	request   *Request
	authority *Authority
	life      time.Duration
	der       []byte
}

// Alarming says that a certificate that should have been renewed was not.
func (r Renewal) Alarming() bool { return r.Left < Alarm }

// Renewals finds the certificates to renew, by site, issuer and key kind: of each active site the
// newest certificate of each kind of key. Site, key and life are taken from that certificate,
// which must have the CA's own signature, never from a column: so an attacker who can change rows
// gains no certificate. Rows that contradict their certificate are returned as refused.
func Renewals(roster []masterdb.Responder, authorities []*Authority, now time.Time) []Renewal {
	var list []Renewal
	for _, a := range authorities {
		newest := map[string]Renewal{}
		for _, row := range rowsOf(roster, a.Issuer.ID) {
			r, err := a.renewal(row, now)
			if err != nil {
				list = append(list, Renewal{Site: row.Site, Issuer: a.Issuer.Name, Serial: row.Serial, NotAfter: row.Status.NotAfter, Refused: err.Error()})
				continue
			}
			if r.Refused == "" && row.Status.Revoked {
				r.Refused = "its newest certificate is revoked: enrol the site anew (ocspctl responder add)"
			}
			if r.Refused == "" && a.State != nil { // the CA's key is here
				if err := a.agrees(); err != nil {
					r.Refused = err.Error()
				}
			}
			key := r.Site + " " + keyAlgorithm(r.Kind)
			if old, there := newest[key]; !there || r.NotBefore.After(old.NotBefore) || r.NotBefore.Equal(old.NotBefore) && r.NotAfter.After(old.NotAfter) {
				newest[key] = r
			}
		}
		for _, r := range newest {
			if isActive(roster, r.Site) {
				list = append(list, r)
			}
		}
	}
	slices.SortFunc(list, func(a, b Renewal) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.Serial, b.Serial))
	})
	return list
}

func rowsOf(roster []masterdb.Responder, issuer db.IssuerID) []masterdb.RosterCertificate {
	var rows []masterdb.RosterCertificate
	for _, site := range roster {
		for _, c := range site.Certificates {
			if c.IssuerID == issuer {
				rows = append(rows, c)
			}
		}
	}
	return rows
}

func isActive(roster []masterdb.Responder, site string) bool {
	return slices.ContainsFunc(roster, func(r masterdb.Responder) bool { return r.Name == site && r.State == db.ResponderActive })
}

// keyAlgorithm is equal for keys that replace each other: after a change of the key the old one is
// no longer renewed.
func keyAlgorithm(kind string) string { return strings.TrimRight(kind, "0123456789") }

// renewal reads a row's certificate, and refuses a row that is not what the CA signed.
func (a *Authority) renewal(row masterdb.RosterCertificate, now time.Time) (Renewal, error) {
	site, c, err := a.verify(row.DER)
	if err != nil {
		return Renewal{}, err
	}
	key := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	switch {
	case row.Site != site:
		return Renewal{}, fmt.Errorf("its row says site %q, its certificate %q", row.Site, site)
	case row.KeyHash != key:
		return Renewal{}, errors.New("its row names another key than its certificate")
	case !bytes.Equal(row.Serial, db.SerialFromMagnitude(c.SerialNumber.Bytes(), false)):
		return Renewal{}, errors.New("its row names another serial than its certificate")
	}
	whole := c.NotAfter.Sub(c.NotBefore)
	life := whole - backdate
	if c.NotBefore.Equal(a.Certificate.NotBefore) {
		life = whole // a young CA: it could not be backdated
	}
	r := Renewal{
		Site: site, Issuer: a.Issuer.Name, Kind: keyKind(c.PublicKey), Serial: row.Serial, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Left: float64(c.NotAfter.Sub(now)) / float64(whole), Due: now.Sub(c.NotBefore) >= whole/2,
		request: &Request{Site: site, PublicKey: c.PublicKey, KeyHash: key, last: row.Serial}, authority: a,
		life: min(max(life, minLife), a.longest()), der: row.DER,
	}
	if err := provesStill(c, now); err != nil {
		r.Refused = err.Error()
	}
	return r, nil
}

// provesStill refuses a certificate as a proof of the site's key if it ended longer ago than it
// had lived.
func provesStill(c *x509.Certificate, now time.Time) error {
	if now.Sub(c.NotAfter) > c.NotAfter.Sub(c.NotBefore) {
		return fmt.Errorf("it ended at %s, too long ago to go by it: enrol the site anew (ocspctl responder add)", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// verify reads a responder certificate that this CA signed, and its site.
func (a *Authority) verify(der []byte) (site string, c *x509.Certificate, err error) {
	if c, err = x509.ParseCertificate(der); err != nil {
		return "", nil, fmt.Errorf("reading its certificate: %w", err)
	}
	if !bytes.Equal(c.RawIssuer, a.Certificate.RawSubject) {
		return "", nil, errors.New("its certificate is another CA's")
	}
	if err := a.Certificate.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return "", nil, errors.New("its certificate does not bear the CA's signature")
	}
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || c.IsCA {
		return "", nil, errors.New("its certificate is no responder's")
	}
	site, ours := strings.CutPrefix(c.Subject.CommonName, subjectCN(""))
	if !ours || db.CheckSite(site) != nil {
		return "", nil, fmt.Errorf("its certificate names %q, which is no site", c.Subject.CommonName)
	}
	if err := certprofile.CheckKey(c.PublicKey); err != nil {
		return "", nil, fmt.Errorf("checking its key: %w", err)
	}
	return site, c, nil
}

// Do issues the next certificate. life 0: as long as the last one.
func (r Renewal) Do(ctx context.Context, store *masterdb.DB, life time.Duration, now time.Time, random io.Reader, act db.Act) (db.ResponderCertificate, error) {
	if r.Refused != "" {
		return db.ResponderCertificate{}, fmt.Errorf("renewing site %q for issuer %q: %s", r.Site, r.Issuer, r.Refused)
	}
	return Enrol(ctx, store, r.authority, r.request, cmp.Or(life, r.life), now, random, act)
}
