package key

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"ocspfleet/hsm"
	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/faultpkcs11"
	"ocspfleet/integration/testkit/softhsm"
)

// Who is told that the token lacks a kind of key is told how to ask for another.
func TestKindThatTheTokenLacksNamesTheOption(t *testing.T) {
	soft, err := softhsm.New(t.TempDir(), "site-a", "1234")
	if err != nil {
		t.Fatal(err)
	}
	s, err := faultpkcs11.Build(t.TempDir(), soft.Module)
	if err != nil {
		t.Fatal(err)
	}
	token, err := hsm.Open(t.Context(), hsm.Config{Config: tokenconf.Config{URI: soft.URI(), Module: s.Module, SoftHSM2Conf: soft.Conf}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Set(faultpkcs11.Faults{KeygenError: pkcs11.CKR_CURVE_NOT_SUPPORTED}); err != nil {
		t.Fatal(err)
	}
	for kind, other := range map[hsm.KeyKind]string{hsm.P256: "--kind rsa2048", hsm.RSA2048: "--kind p256"} {
		_, err := generateKey(token, kind, "a")
		if !errors.Is(err, hsm.ErrKind) || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), "EC_KEY_PAIR_GEN") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
}
