package issuance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
)

const (
	// minLife gives a site time to receive the certificate and to use it.
	minLife = time.Hour
	// backdate puts notBefore an hour into the past. A site uses a new certificate only when its
	// notBefore is an hour old, as long as an older one is valid (clients' clocks may be slow); so
	// the first use is immediate. BR section 7.1.2.8 allows a day.
	backdate = time.Hour
)

// Authority is an issuer's CA with its key at hand.
type Authority struct {
	Issuer      db.Issuer
	Certificate *x509.Certificate
	Rules       Rules  // the CA's own; empty if its key is not here
	State       *State // the CA's memory; nil if its key is not here

	key crypto.Signer
}

// NewAuthority checks that certificate and key are the issuer's and can sign now.
func NewAuthority(issuer db.Issuer, certificate *x509.Certificate, key crypto.Signer, rules Rules, state *State, now time.Time) (*Authority, error) {
	fail := func(problem string) (*Authority, error) {
		return nil, fmt.Errorf("taking up the CA of issuer %q: %s", issuer.Name, problem)
	}
	if err := CheckCA(certificate, now); err != nil {
		return fail(err.Error())
	}
	public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case db.IssuerKey(certificate) != issuer.Key:
		return fail("the certificate has another name or key than the issuer at the master")
	case !ok || !public.Equal(key.Public()):
		return fail("the private key is not the certificate's")
	}
	return &Authority{issuer, certificate, rules, state, key}, nil
}

// CheckCA says why a certificate cannot be that of an issuer.
func CheckCA(certificate *x509.Certificate, now time.Time) error {
	switch {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return errors.New("the certificate is no CA's (basicConstraints)")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the certificate may not sign certificates (keyUsage)")
	case now.Before(certificate.NotBefore):
		return fmt.Errorf("the certificate is valid from %s only", certificate.NotBefore.UTC().Format(time.RFC3339))
	case now.After(certificate.NotAfter):
		return fmt.Errorf("the certificate ended at %s", certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	_, err := signatureAlgorithm(certificate.PublicKey)
	return err
}

// signatureAlgorithm chooses by the CA's key, never SHA-1 and never by a library's default.
func signatureAlgorithm(public any) (x509.SignatureAlgorithm, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return 0, fmt.Errorf("a CA key of RSA with %d bits: want 2048 or more", key.N.BitLen())
		}
		return x509.SHA256WithRSA, nil
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return x509.ECDSAWithSHA256, nil
		case 384:
			return x509.ECDSAWithSHA384, nil
		case 521:
			return x509.ECDSAWithSHA512, nil
		}
	}
	return 0, errors.New("a CA key of that kind is not supported: want RSA, P-256, P-384 or P-521")
}

// Span returns the validity of a certificate that is issued at a time for a life, within what CA
// and profile allow.
func (a *Authority) Span(life time.Duration, at time.Time) (notBefore, notAfter time.Time, err error) {
	at = at.UTC().Truncate(time.Second)
	notBefore, notAfter = at.Add(-backdate), at.Add(life)
	if notBefore.Before(a.Certificate.NotBefore) {
		notBefore = a.Certificate.NotBefore
	}
	if end := a.Certificate.NotAfter; notAfter.After(end) {
		notAfter = end // RFC 5280 section 6.1: beyond it no path is valid
	}
	longest := a.longest()
	switch {
	case life < minLife || life > longest:
		err = fmt.Errorf("a life of %s: want %s to %s for issuer %q of profile %s", life, minLife, longest, a.Issuer.Name, a.Issuer.Policy.Profile)
		if longest == a.Rules.MaxLife && longest < certprofile.MaxLifeOf(a.Issuer.Policy.Profile) {
			err = fmt.Errorf("%w (max_life in the CA's own configuration)", err)
		}
	case notAfter.Before(at.Add(minLife)):
		err = fmt.Errorf("the CA of issuer %q ends at %s: too soon for a responder certificate", a.Issuer.Name, notAfter.UTC().Format(time.RFC3339))
	}
	return notBefore, notAfter, err
}

// longest returns the longest life that the CA signs.
func (a *Authority) longest() time.Duration {
	longest := certprofile.MaxLifeOf(a.Issuer.Policy.Profile)
	if a.Rules.MaxLife > 0 {
		longest = min(longest, a.Rules.MaxLife)
	}
	return longest
}

// Template returns a certificate for a rehearsal: everything but the signature. An issued one has
// a planned serial (Enrol).
func (a *Authority) Template(r *Request, life time.Duration, now time.Time, random io.Reader) (*x509.Certificate, error) {
	notBefore, notAfter, err := a.Span(life, now)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(random)
	if err != nil {
		return nil, err
	}
	return a.template(r, serial, notBefore, notAfter)
}

// template returns the one fixed form of a responder certificate.
func (a *Authority) template(r *Request, serial db.Serial, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	algorithm, err := signatureAlgorithm(a.Certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	ski, err := keyID(r.PublicKey)
	if err != nil {
		return nil, err
	}
	aki, err := certprofile.AuthorityKeyID(a.Certificate)
	if err != nil {
		return nil, err
	}
	subject, err := a.subject(r.Site)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:       new(big.Int).SetBytes(serial),
		SignatureAlgorithm: algorithm,
		Subject:            subject,
		NotBefore:          notBefore,
		NotAfter:           notAfter,
		KeyUsage:           x509.KeyUsageDigitalSignature,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		SubjectKeyId:       ski,
		AuthorityKeyId:     aki,
	}
	// RFC 6960 section 4.2.2.2.1 has three ways to check a responder: never (nocheck, profile br),
	// as the certificate says (a CRL, profile revocable), or by the client's own policy, which
	// remains if the issuer has no crl_url.
	switch policy := a.Issuer.Policy; {
	case policy.Profile == db.ProfileBR:
		t.ExtraExtensions = []pkix.Extension{{Id: certprofile.OIDNoCheck, Value: certprofile.NoCheckValue}}
	case policy.CRLURL != "":
		t.CRLDistributionPoints = []string{policy.CRLURL}
	}
	return t, nil
}

// agrees says where the master wants other certificates than the CA's own rules allow.
func (a *Authority) agrees() error {
	return a.Rules.agree(a.Issuer.Policy.Profile, a.Issuer.Policy.CRLURL)
}

// Sign signs the template for the request's key. It returns no certificate that the CA's rules
// forbid, or that its lint finds at fault.
func (a *Authority) Sign(t *x509.Certificate, r *Request, now time.Time, random io.Reader) ([]byte, error) {
	if err := a.agrees(); err != nil {
		return nil, fmt.Errorf("signing for issuer %q: %w", a.Issuer.Name, err)
	}
	der, err := x509.CreateCertificate(random, t, a.Certificate, r.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing for issuer %q: %w", a.Issuer.Name, err)
	}
	if faults := certprofile.Lint(der, a.Certificate, a.Issuer.Policy, now); len(faults) > 0 {
		return nil, fmt.Errorf("checking the new certificate of issuer %q: %s", a.Issuer.Name, strings.Join(faults, "; "))
	}
	return der, nil
}

// newSerial draws a positive serial of exactly serialLen DER content octets:
// top bit clear (RFC 5280 section 4.1.2.2), first octet not zero (X.690 section
// 8.3.2).
func newSerial(random io.Reader) (db.Serial, error) {
	serial := make(db.Serial, certprofile.SerialLen)
	for serial[0] == 0 {
		if _, err := io.ReadFull(random, serial); err != nil {
			return nil, fmt.Errorf("drawing a serial: %w", err)
		}
		serial[0] &= 0x7f
	}
	return serial, nil
}

// keyID returns SHA-1 of the subjectPublicKey BIT STRING's content (RFC 5280 section 4.2.1.2,
// method 1): the same as the responderID byKey.
func keyID(public any) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	id, err := db.KeyID(spki)
	return id[:], err
}
