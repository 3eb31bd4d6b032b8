package signer

import (
	"math/big"
	"testing"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/integration/testkit/signertest"
)

// FuzzAnswer holds the whole pipeline against any octets: no panic, no internal
// error, and an answer that x/crypto/ocsp takes for what its class says.
func FuzzAnswer(f *testing.F) {
	r := newRig(f)
	for _, serial := range []*big.Int{signertest.GoodSerial, signertest.RevokedSerial, signertest.HoldSerial, signertest.AbsentSerial, big.NewInt(-1), new(big.Int)} {
		f.Add(r.Request(serial))
		f.Add(signertest.Join(f, []byte("nonce"), r.Request(serial), r.Request(signertest.GoodSerial)))
		f.Add(preferring(f, r.Request(serial), wish{wishRSA256, ""}, wish{wishECDSA256, secp256r1}))
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, request []byte) {
		a := r.Answer(t.Context(), request)
		if a.Class == InternalError || a.Class == TryLater {
			t.Fatalf("answered %s", a.Class)
		}
		resp, err := ocsp.ParseResponse(a.Body, r.CA.Cert)
		if _, refused := err.(ocsp.ResponseError); refused == a.Class.Signed() {
			t.Fatalf("class %s: %v", a.Class, err)
		}
		if err == nil && (resp.NextUpdate.Before(signertest.Noon) || resp.Certificate == nil) {
			t.Fatalf("class %s: %+v", a.Class, resp)
		}
	})
}
