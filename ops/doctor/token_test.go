package doctor_test

import (
	"context"
	"errors"
	"testing"

	"ocspfleet/ops/doctor"
)

func TestDoctorJudgesTokensAndKeys(t *testing.T) {
	s := newSite(t, nil)
	spare := doctor.Key{Label: "spare", Kind: "rsa2048", Hash: [32]byte{1}}
	look := func(err error, tokens ...doctor.Token) []doctor.Result {
		s.doctor.Tokens = func(context.Context) ([]doctor.Token, error) { return tokens, err }
		return s.doctor.Examine(t.Context())
	}
	all := look(nil, token(s.key, spare))
	want(t, all, doctor.OK, "token", "holds 2 keys: ocsp-site-a, spare")
	want(t, all, doctor.OK, "mechanisms", "it has ECDSA, RSA_PKCS")
	want(t, all, doctor.OK, "sessions", "tells no limit")
	want(t, all, doctor.OK, "key ocsp-site-a", "p256: has certificates of web-ca")
	want(t, all, doctor.Warn, "key spare", "rsa2048: no certificate in the copy is for it")

	all = look(nil, doctor.Token{Mechanisms: []string{"ECDSA"}, Keys: []doctor.Key{s.key}, Odd: []string{`key "halved" has no public half`}})
	want(t, all, doctor.Warn, "token", "has no public half")

	all = look(nil, doctor.Token{Name: "old", Mechanisms: []string{"RSA_PKCS"}, Most: 4, Keys: []doctor.Key{s.key}}, doctor.Token{Name: "new", Most: 64})
	want(t, all, doctor.Fail, "mechanisms old", "key ocsp-site-a is of kind p256, and the token does not sign by ECDSA")
	want(t, all, doctor.Warn, "sessions old", "allows 4")
	want(t, all, doctor.Fail, "token new", "holds no key")
	want(t, all, doctor.Fail, "mechanisms new", "neither by ECDSA nor by RSA_PKCS")
	want(t, all, doctor.OK, "sessions new", "allows 64")

	// One of two cannot be looked at: what the other holds is told, and the
	// certificates are not judged, for their keys may lie in the first.
	all = look(errors.New("token new: CKR_PIN_INCORRECT"), token(s.key))
	want(t, all, doctor.Fail, "token", "CKR_PIN_INCORRECT")
	want(t, all, doctor.OK, "token", "holds 1 keys")
	for _, f := range all {
		if f.Check == "certificate web-ca" {
			t.Errorf("judged without knowing every key: %+v", f)
		}
	}
}
