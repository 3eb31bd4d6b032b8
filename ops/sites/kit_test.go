package sites

import (
	"crypto"
	"crypto/rand"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/issuance"
)

var (
	now  = catest.Now
	act  = catest.Act
	p256 = catest.P256
	csr  = catest.Request
)

func must[T any](value T, err error) T { return catest.Must(value, err) }

// newCA makes a CA.
func newCA(t *testing.T, key crypto.Signer, profile db.Profile) *issuance.Authority {
	t.Helper()
	certificate, issuer := catest.Issuer(t, key, profile, nil)
	rules := issuance.Rules{Profile: profile, MaxLife: certprofile.MaxLifeOf(profile)}
	return must(issuance.NewAuthority(issuer, certificate, key, rules, issuance.OpenState(t.TempDir()), now))
}

// enrol puts a site with a new key on the roster.
func enrol(t *testing.T, store *masterdb.DB, a *issuance.Authority, site, url string) (crypto.Signer, db.ResponderCertificate) {
	t.Helper()
	key := p256()
	r, err := issuance.ParseRequest(csr(key, site), site)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddResponder(t.Context(), site, url, []string{"192.0.2.1"}, act); err != nil {
		t.Fatal(err)
	}
	c, err := issuance.Enrol(t.Context(), store, a, r, certprofile.DefaultLife, now, rand.Reader, act)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}
