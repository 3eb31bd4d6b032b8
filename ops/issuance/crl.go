package issuance

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

const (
	// CRLLife is the default time from thisUpdate to nextUpdate: more than any outage budget, so
	// that a CRL never ends before the answers do.
	CRLLife = 7 * 24 * time.Hour
	// MaxCRLLife is the longest (BR section 4.9.7: 10 days).
	MaxCRLLife = 10 * 24 * time.Hour
	// maxCRL is the size that fits into an issuer's row: some 1,700 entries.
	maxCRL = 65535
)

var oidIDP = asn1.ObjectIdentifier{2, 5, 29, 28}

// CRLContent is the content of a CRL to be signed.
type CRLContent struct {
	Number                 int64
	ThisUpdate, NextUpdate time.Time
	Entries                []masterdb.CRLEntry
	// URL is the distribution point whose certificates it covers; empty: it covers all that the CA
	// issued.
	URL string
}

// SignCRL signs a CRL version 2 (RFC 5280 section 5). With a URL it is partitioned: a critical
// issuingDistributionPoint that is, octet for octet, the certificates' own distribution point
// (section 5.2.5), so that it can never be taken for the CA's whole CRL.
func (a *Authority) SignCRL(c CRLContent, random io.Reader) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("signing CRL %d of issuer %q: %w", c.Number, a.Issuer.Name, err)
	}
	algorithm, err := signatureAlgorithm(a.Certificate.PublicKey)
	if err != nil {
		return fail(err)
	}
	ca := *a.Certificate
	if ca.KeyUsage != 0 && ca.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return fail(errors.New("the CA's certificate may not sign CRLs (keyUsage)"))
	}
	ca.KeyUsage |= x509.KeyUsageCRLSign
	if ca.SubjectKeyId, err = certprofile.AuthorityKeyID(a.Certificate); err != nil {
		return fail(err)
	}
	list := &x509.RevocationList{
		SignatureAlgorithm: algorithm, Number: big.NewInt(c.Number),
		ThisUpdate: c.ThisUpdate.UTC().Truncate(time.Second), NextUpdate: c.NextUpdate.UTC().Truncate(time.Second),
	}
	for _, e := range c.Entries {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: new(big.Int).SetBytes(e.Serial), RevocationTime: e.Status.RevokedAt,
			ReasonCode: max(0, int(e.Status.Reason)), // 0: absent, as section 5.3.1 requires for unspecified
		})
	}
	if c.URL != "" {
		value, err := idpOf(c.URL)
		if err != nil {
			return fail(err)
		}
		list.ExtraExtensions = []pkix.Extension{{Id: oidIDP, Critical: true, Value: value}}
	}
	der, err := x509.CreateRevocationList(random, list, &ca, a.key)
	if err != nil {
		return fail(err)
	}
	if len(der) > maxCRL {
		return fail(fmt.Errorf("it has %d octets: want %d at most (some 1,700 entries)", len(der), maxCRL))
	}
	return der, nil
}

// idpOf returns the value of an issuingDistributionPoint of one URL (RFC 5280 section 5.2.5).
func idpOf(url string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { certprofile.DistributionPoint(b, url) })
	return b.Bytes()
}

// CheckCRLLife says what is wrong with the time from one CRL to the next.
func CheckCRLLife(life time.Duration, policy db.Policy) error {
	if life < policy.MaxStaleness || life > MaxCRLLife {
		return fmt.Errorf("a CRL for %s: want %s (the longest that a site answers on without news) to %s", life, policy.MaxStaleness, MaxCRLLife)
	}
	return nil
}

// crlScope returns the distribution point that the next CRL of an issuer covers; empty: it is a
// full one.
func crlScope(ctx context.Context, store *masterdb.DB, issuer db.Issuer, full bool) (string, error) {
	imported, err := store.CRLNumber(ctx, issuer.ID)
	switch {
	case err != nil:
		return "", err
	case full && imported != nil:
		return "", fmt.Errorf("the CA has a CRL of its own (number %s was imported): two full ones would contradict each other", imported)
	case full:
		return "", nil
	case issuer.Policy.CRLURL == "":
		return "", errors.New("it has no crl_url, so no certificate names a CRL (crl_scope: all in the CA's configuration makes one of all its certificates)")
	}
	return issuer.Policy.CRLURL, nil
}

// DraftCRL reads the content of the next CRL of an issuer from the master, and the head's position
// at that moment; it has no number yet. An entry stays until one CRL was issued after its
// certificate ended (RFC 5280 section 3.3).
func DraftCRL(ctx context.Context, store *masterdb.DB, issuer db.Issuer, full bool, life time.Duration) (CRLContent, int64, error) {
	fail := func(err error) (CRLContent, int64, error) {
		return CRLContent{}, 0, fmt.Errorf("drafting the CRL of issuer %q: %w", issuer.Name, err)
	}
	if err := CheckCRLLife(life, issuer.Policy); err != nil {
		return fail(err)
	}
	url, err := crlScope(ctx, store, issuer, full)
	if err != nil {
		return fail(err)
	}
	since := time.Now().Add(-issuer.Policy.Backdate)
	if len(issuer.CRL) > 0 {
		last, err := x509.ParseRevocationList(issuer.CRL)
		if err != nil {
			return fail(fmt.Errorf("reading its last CRL: %w", err))
		}
		since = last.ThisUpdate
	}
	rows, err := store.CRLRows(ctx, issuer.ID, full, since)
	if err != nil {
		return fail(err)
	}
	thisUpdate := rows.Clock.Truncate(time.Second).Add(-issuer.Policy.Backdate) // for slow clocks of clients
	return CRLContent{ThisUpdate: thisUpdate, NextUpdate: thisUpdate.Add(life), Entries: rows.Entries, URL: url}, rows.Position, nil
}

// NextCRL returns what the CA would sign now: with the scope of its own configuration, and only if
// it takes back nothing that the CA remembers.
func (a *Authority) NextCRL(ctx context.Context, store *masterdb.DB, life time.Duration) (CRLContent, int64, error) {
	content, position, err := DraftCRL(ctx, store, a.Issuer, a.Rules.AllCertificates, life)
	if err == nil {
		err = a.checkCRL(content)
	}
	if err != nil {
		return CRLContent{}, 0, fmt.Errorf("judging the next CRL of issuer %q: %w", a.Issuer.Name, err)
	}
	return content, position, nil
}

// IssueCRL signs the master's present revocations, and publishes the CRL. The number is taken
// after the rows were read; of two CRLs at once, the one with older rows is refused.
func IssueCRL(ctx context.Context, store *masterdb.DB, a *Authority, life time.Duration, random io.Reader, act db.Act) (CRLContent, []byte, error) {
	content, position, err := a.NextCRL(ctx, store, life)
	if err != nil {
		return CRLContent{}, nil, err
	}
	if err := a.learn(ctx, store); err != nil {
		return CRLContent{}, nil, err
	}
	if content.Number, err = store.NextCRL(ctx, a.Issuer.ID, 1); err != nil {
		return CRLContent{}, nil, err
	}
	signed, err := a.signCRLs([]CRLContent{content}, random)
	if err != nil {
		return CRLContent{}, nil, fmt.Errorf("signing the CRL of issuer %q: %w", a.Issuer.Name, err)
	}
	return content, signed[0], store.PutCRL(ctx, a.Issuer.ID, content.Number, position, signed[0], len(content.Entries), act)
}
