package ingest

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"
)

// What certificates and CRLs name as distribution points is proposed as forbidden for
// the responders' CRL; what responder certificates name is not.
func TestDistributionPointsAreSeen(t *testing.T) {
	ca, store := newAuthority(t, "CA one"), master(t)
	named := func(serial int64, purpose x509.ExtKeyUsage, urls ...string) []byte {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "somebody"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{purpose}, CRLDistributionPoints: urls,
		}, ca.cert, ca.key.Public(), ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return asPEM("CERTIFICATE", der)
	}
	const all, part, ours = "http://ca.example/all.crl", "http://ca.example/part.crl", "http://ocsp.example/crl/one"
	point := asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: append([]byte{0xa0, byte(2 + len(part)), 0x86, byte(len(part))}, part...)}
	for name, c := range map[string]struct {
		form string
		text []byte
		want []string
	}{
		"certificates": {
			"certificates", slices.Concat(named(10, x509.ExtKeyUsageServerAuth, part, all), named(11, x509.ExtKeyUsageServerAuth, all), named(12, x509.ExtKeyUsageOCSPSigning, ours)),
			[]string{all, part},
		},
		"a partitioned CRL": {"crl", ca.crl(t, 7, entries(1), extension(28, []asn1.RawValue{point})), []string{part}},
		"a whole CRL":       {"crl", ca.crl(t, 7, entries(1)), nil},
	} {
		f, err := Open(t.Context(), store, []string{keep(t, "file", c.text)}, ca.options(c.form))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Equal(f.Points, c.want) {
			t.Errorf("%s: saw %q, want %q", name, f.Points, c.want)
		}
		f.Close()
	}
}
