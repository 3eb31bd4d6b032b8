package issuance

import (
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zcheck "github.com/zmap/zlint/v3/lint"
)

// brOnly are zlint's rules for what profile br wants and profile revocable is there
// not to do: nocheck, and no CRL distribution point (BR sections 4.9.9 and 7.1.2.8.2).
// zlint applies them to each responder certificate, also of a CA that is no BR CA's.
var brOnly = []string{"e_ocsp_cert_cdp_forbidden", "e_ocsp_id_pkix_ocsp_nocheck_ext_not_included_server_auth"}

// zlinted has zlint judge a certificate. None of its rules is excused, and profile
// revocable breaks exactly brOnly.
func zlinted(t *testing.T, c *x509.Certificate, profile db.Profile) {
	t.Helper()
	var broken []string
	parsed, err := zx509.ParseCertificate(c.Raw)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for name, result := range zlint.LintCertificate(parsed).Results {
		if result.Status > zcheck.NE {
			ran++
		}
		if result.Status >= zcheck.Warn {
			broken = append(broken, name)
		}
	}
	var want []string
	if profile == db.ProfileRevocable {
		want = brOnly
	}
	slices.Sort(broken)
	if !slices.Equal(broken, want) {
		t.Errorf("zlint: profile %s breaks %q, want %q", profile, broken, want)
	}
	if ran < 20 {
		t.Errorf("zlint looked at %d rules only", ran)
	}
}

// The plan says what the lint would say, without the CA's key.
func TestRehearsalIsLintedWithoutTheCAsKey(t *testing.T) {
	for _, profile := range []db.Profile{db.ProfileRevocable, db.ProfileBR} {
		a := newCA(t, rsa2048(), profile, nil)
		a.key = nil
		planned, err := a.Rehearse(request(t, p256()), certprofile.DefaultLife, now, rand.Reader)
		if err != nil || len(planned.Faults) > 0 || planned.Algorithm != x509.SHA256WithRSA || planned.Checked == "" {
			t.Errorf("%s: %+v, %v", profile, planned, err)
		}
		a.Certificate.NotBefore = now // the certificate would begin with it, as it must
		if planned, err = a.Rehearse(request(t, p256()), certprofile.DefaultLife, now, rand.Reader); err != nil || len(planned.Faults) > 0 {
			t.Errorf("%s: %+v, %v", profile, planned, err)
		}
		own := newCA(t, p256(), profile, nil)
		if planned, err = own.Rehearse(request(t, own.key), certprofile.DefaultLife, now, rand.Reader); err != nil || len(planned.Faults) != 1 {
			t.Errorf("%s: the CA's own key: %+v, %v", profile, planned, err)
		}
	}
}
