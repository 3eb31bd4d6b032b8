package issuance

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
)

// BundleForm and SerialsForm identify a bundle and a pool of serials.
const (
	BundleForm  = "ocspfleet ca-sign 1"
	SerialsForm = "ocspfleet serials 1"
)

// Bundle goes to a CA that has no network, and returns with the certificates filled in. Nothing in
// it is trusted: the CA checks the keys, the form and its own rules, the master what it had
// planned. A signed bundle must be protected like a key.
type Bundle struct {
	Form      string `json:"form"`
	Issuer    string `json:"issuer"`
	IssuerKey string `json:"issuer_key"` // hex of db.Issuer.Key
	// Profile and CRLURL are what the master wants; the CA signs by its own and refuses others.
	Profile      db.Profile    `json:"profile"`
	CRLURL       string        `json:"crl_url"`
	Certificates []BundledCert `json:"certificates"`
	// DeniedKeys and DeniedCertificates are added to the CA's deny list.
	DeniedKeys         []string `json:"denied_keys"`         // SHA-256 of SubjectPublicKeyInfo, hex
	DeniedCertificates []string `json:"denied_certificates"` // serials, hex
	// Revoked and CRLs are a series of CRLs, which all name the revoked certificates.
	Revoked []BundledEntry `json:"revoked,omitempty"`
	CRLs    []BundledCRL   `json:"crls,omitempty"`
}

// BundledCert is one certificate of a series. Its serial is of the CA's pool, and registered
// already.
type BundledCert struct {
	Site      string    `json:"site"`
	Serial    string    `json:"serial"` // hex
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Proof is a certificate request, or the site's last certificate, in PEM: there the CA's own
	// signature proves the key.
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

// Series is how many certificates to request at once, and how they follow each other: each begins
// Every after the one before and lives Life.
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

// Plan makes the series for one site; planning at the master adds the serials. proof is a
// certificate request or the site's last certificate, PEM or DER.
func (a *Authority) Plan(site string, proof []byte, s Series, now time.Time) ([]BundledCert, []masterdb.Planned, error) {
	fail := func(err error) ([]BundledCert, []masterdb.Planned, error) {
		return nil, nil, fmt.Errorf("planning certificates of site %q for issuer %q: %w", site, a.Issuer.Name, err)
	}
	if err := s.check(); err != nil {
		return fail(err)
	}
	r, err := a.prove(site, proof, now)
	if err != nil {
		return fail(err)
	}
	var list []BundledCert
	var rows []masterdb.Planned
	for i := range s.Count {
		notBefore, notAfter, err := a.Span(s.Life, now.Add(time.Duration(i)*s.Every))
		if err != nil {
			return fail(err)
		}
		list = append(list, BundledCert{Site: site, NotBefore: notBefore, NotAfter: notAfter, Proof: string(asPEM(proof))})
		rows = append(rows, masterdb.Planned{IssuerID: a.Issuer.ID, Site: site, KeyHash: r.KeyHash, NotBefore: notBefore, NotAfter: notAfter})
	}
	return list, rows, nil
}

// Bundle makes a bundle of planned certificates for the CA.
func (a *Authority) Bundle(list []BundledCert, denied Denied) Bundle {
	b := Bundle{
		Form: BundleForm, Issuer: a.Issuer.Name, IssuerKey: hex.EncodeToString(a.Issuer.Key[:]),
		Profile: a.Issuer.Policy.Profile, CRLURL: a.Issuer.Policy.CRLURL, Certificates: list,
	}
	b.DeniedKeys, b.DeniedCertificates = denied.Texts()
	return b
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

// prove finds the key of a site: by its request, or by the last certificate that this CA signed
// for it.
func (a *Authority) prove(site string, proof []byte, now time.Time) (*Request, error) {
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
	if err := provesStill(c, now); err != nil {
		return nil, fmt.Errorf("the last certificate: %w", err)
	}
	serial := db.SerialFromMagnitude(c.SerialNumber.Bytes(), false)
	return &Request{Site: site, PublicKey: c.PublicKey, KeyHash: sha256.Sum256(c.RawSubjectPublicKeyInfo), last: serial}, nil
}

// LastProofs returns the newest certificates of an active site that this CA signed, one for each
// kind of key that it has, DER; none: there is no proof.
func (a *Authority) LastProofs(roster []masterdb.Responder, site string, now time.Time) [][]byte {
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
	}
	return nil
}

// Release is the result for one certificate of a bundle that came back.
type Release struct {
	Site, Serial string
	NotBefore    time.Time
	Action       string // released, waiting, there, revoked
}

// Release adds those certificates of a signed bundle to the replicated rows whose time has come;
// without apply it only reports. Each must be, field for field, what was planned, and have the
// CA's signature.
func (a *Authority) Release(ctx context.Context, store *masterdb.DB, b *Bundle, apply bool, now time.Time, act db.Act) ([]Release, error) {
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

func (a *Authority) releaseOne(ctx context.Context, store *masterdb.DB, c BundledCert, planned []masterdb.Planned, apply bool, now time.Time, act db.Act) (string, error) {
	serial, err := db.ParseSerial(c.Serial)
	if err != nil {
		return "", err
	}
	status, err := store.Certificate(ctx, a.Issuer.ID, serial)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(planned, func(p masterdb.Planned) bool { return p.IssuerID == a.Issuer.ID && bytes.Equal(p.Serial, serial) })
	switch {
	case status.Revoked:
		return "revoked", nil
	case at < 0:
		return "there", nil // released before: then it is no longer planned
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
	if faults := certprofile.Lint(block.Bytes, a.Certificate, a.Issuer.Policy, plan.NotBefore.Add(backdate)); len(faults) > 0 {
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
