package db_test

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"

	"ocspfleet/db"

	"github.com/google/go-cmp/cmp"
)

// An issuer's row comes out of its canonical bytes as it went in, with its CRL and
// without; bytes that end elsewhere are refused.
func TestIssuerFromItsCanonicalBytes(t *testing.T) {
	issuer := db.Issuer{
		ID: 7, Key: sha256.Sum256([]byte("key")), Name: "web-ca", Certificate: []byte{0x30, 0},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, Refresh: 15 * time.Minute, ArchiveCutoff: true, NeverIssued: "unknown", Profile: "revocable", CRLURL: "http://site-a.example/crl/web-ca", Version: 3,
		},
	}
	for name, crl := range map[string][]byte{"no CRL": nil, "a CRL": bytes.Repeat([]byte{0x30}, 300)} {
		t.Run(name, func(t *testing.T) {
			issuer.CRL = crl
			canonical := db.AppendIssuer(nil, issuer)
			got, err := db.ParseIssuer(canonical)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(issuer, got); diff != "" {
				t.Error(diff)
			}
			for n := range canonical {
				if got, err := db.ParseIssuer(canonical[:n]); err == nil && len(got.CRL) > 0 {
					t.Errorf("the first %d of %d octets were taken for a whole row", n, len(canonical))
				}
			}
			if _, err := db.ParseIssuer(append(canonical, 0)); err == nil {
				t.Error("an octet too many was taken")
			}
			if _, err := db.ParseIssuer(append(canonical, 0, 0, 0, 0)); err == nil {
				t.Error("an empty CRL was taken: it has another form")
			}
		})
	}
}
