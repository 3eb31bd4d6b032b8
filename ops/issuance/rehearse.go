package issuance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"ocspfleet/ops/certprofile"
)

// Rehearsal is what would be issued, with the lint's result.
type Rehearsal struct {
	NotBefore, NotAfter time.Time
	Algorithm           x509.SignatureAlgorithm
	Checked             string   // how a client may check the responder, for people
	Faults              []string // of the lint; none: it could be issued
}

// Rehearse issues with a throw-away key instead of the CA's, and lints that: the plan shows the
// lint's result, and the CA's key is not used.
func (a *Authority) Rehearse(r *Request, life time.Duration, now time.Time, random io.Reader) (Rehearsal, error) {
	fail := func(err error) (Rehearsal, error) {
		return Rehearsal{}, fmt.Errorf("rehearsing a certificate of site %q for issuer %q: %w", r.Site, a.Issuer.Name, err)
	}
	if err := a.admit(r, now); err != nil {
		return fail(err)
	}
	t, err := a.Template(r, life, now, random)
	if err != nil {
		return fail(err)
	}
	key, err := throwAway(a.Certificate.PublicKey)
	if err != nil {
		return fail(err)
	}
	stage := *a.Certificate // with all its octets, but another key to verify with
	stage.PublicKey = key.Public()
	der, err := x509.CreateCertificate(random, t, &stage, r.PublicKey, key)
	if err != nil {
		return fail(err)
	}
	checked := "by nobody (nocheck)"
	switch {
	case len(t.CRLDistributionPoints) > 0:
		checked = "by the CRL at " + t.CRLDistributionPoints[0]
	case len(t.ExtraExtensions) == 0:
		checked = "by the client's own rules (the issuer has no crl_url)"
	}
	return Rehearsal{t.NotBefore, t.NotAfter, t.SignatureAlgorithm, checked, certprofile.Lint(der, &stage, a.Issuer.Policy, now)}, nil
}

// throwAway makes a key of the CA's kind.
func throwAway(ca crypto.PublicKey) (crypto.Signer, error) {
	if public, ok := ca.(*ecdsa.PublicKey); ok {
		return ecdsa.GenerateKey(public.Curve, rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}
