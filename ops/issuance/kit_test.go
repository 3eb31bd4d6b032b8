package issuance

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/ops/certprofile"
)

var (
	now  = catest.Now
	act  = catest.Act
	p256 = catest.P256
	csr  = catest.Request
)

func must[T any](value T, err error) T { return catest.Must(value, err) }

// newCA makes a CA; edit changes its certificate before it is signed.
func newCA(t *testing.T, key crypto.Signer, profile db.Profile, edit func(*x509.Certificate)) *Authority {
	t.Helper()
	certificate, issuer := catest.Issuer(t, key, profile, edit)
	return &Authority{issuer, certificate, Rules{Profile: profile, MaxLife: certprofile.MaxLifeOf(profile)}, OpenState(t.TempDir()), key}
}

func request(t *testing.T, key crypto.Signer) *Request {
	t.Helper()
	r, err := ParseRequest(csr(key, "site-a"), "site-a")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// issue makes a certificate without a database.
func issue(t *testing.T, a *Authority, r *Request) *x509.Certificate {
	t.Helper()
	template, err := a.Template(r, certprofile.DefaultLife, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := a.Sign(template, r, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return must(x509.ParseCertificate(der))
}

// enrol puts a site with a new key on the roster.
func enrol(t *testing.T, store *masterdb.DB, a *Authority, site, url string) (crypto.Signer, db.ResponderCertificate) {
	t.Helper()
	key := p256()
	r, err := ParseRequest(csr(key, site), site)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddResponder(t.Context(), site, url, []string{"192.0.2.1"}, act); err != nil {
		t.Fatal(err)
	}
	c, err := Enrol(t.Context(), store, a, r, certprofile.DefaultLife, now, rand.Reader, act)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}
