package catest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// Now is the tests' clock: real, since openssl has no other.
var Now = time.Now().UTC().Truncate(time.Second)

// Act is who does all, in the audit.
var Act = db.Act{User: "tester", Why: "test"}

// Must returns the value, where an error is the test's own fault.
func Must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// P256 makes a key.
func P256() crypto.Signer { return Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// Issuer makes a CA's certificate and the issuer that it is; edit changes the certificate
// before it is signed.
func Issuer(tb testing.TB, key crypto.Signer, profile db.Profile, edit func(*x509.Certificate)) (*x509.Certificate, db.Issuer) {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA " + tb.Name(), Country: []string{"AT"}, Organization: []string{"Test"}},
		NotBefore: Now.Add(-240 * time.Hour), NotAfter: Now.Add(2400 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if edit != nil {
		edit(template)
	}
	certificate := Must(x509.ParseCertificate(Must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))))
	return certificate, db.Issuer{Name: "ca", Key: db.IssuerKey(certificate), Certificate: certificate.Raw, Policy: db.Policy{
		Validity: 72 * time.Hour, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
		NeverIssued: db.NeverIssuedUnknown, Profile: profile,
	}}
}

// Request makes a certificate request in PEM.
func Request(key crypto.Signer, cn string) []byte {
	der := Must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key))
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// Master makes a master with a head.
func Master(tb testing.TB) *dbtest.Database {
	tb.Helper()
	ends := dbtest.Open(tb, dbtest.New(tb, migrations.Master))
	if err := ends.Master.InitHead(tb.Context(), Now); err != nil {
		tb.Fatal(err)
	}
	return ends
}

// Register puts an issuer on the master.
func Register(tb testing.TB, store *masterdb.DB, issuer *db.Issuer) {
	tb.Helper()
	var err error
	if issuer.ID, err = store.AddIssuer(tb.Context(), *issuer, Act); err != nil {
		tb.Fatal(err)
	}
}
