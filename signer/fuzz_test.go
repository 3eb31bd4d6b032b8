package signer

import (
	"math/big"
	"testing"

	"golang.org/x/crypto/ocsp"
)

// FuzzAnswer holds the whole pipeline against any octets: no panic, no internal
// error, and an answer that x/crypto/ocsp takes for what its class says.
func FuzzAnswer(f *testing.F) {
	r := newRig(f)
	for _, serial := range []*big.Int{goodSerial, revokedSerial, holdSerial, absentSerial, big.NewInt(-1), new(big.Int)} {
		f.Add(r.request(serial))
		f.Add(join(f, []byte("nonce"), r.request(serial), r.request(goodSerial)))
		f.Add(preferring(f, r.request(serial), wish{wishRSA256, ""}, wish{wishECDSA256, secp256r1}))
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, request []byte) {
		a := r.Answer(t.Context(), request)
		if a.Class == InternalError || a.Class == TryLater {
			t.Fatalf("answered %s", a.Class)
		}
		resp, err := ocsp.ParseResponse(a.Body, r.ca.cert)
		if _, refused := err.(ocsp.ResponseError); refused == a.Class.Signed() {
			t.Fatalf("class %s: %v", a.Class, err)
		}
		if err == nil && (resp.NextUpdate.Before(noon) || resp.Certificate == nil) {
			t.Fatalf("class %s: %+v", a.Class, resp)
		}
	})
}
