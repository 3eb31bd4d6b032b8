package hsm

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"ocspfleet/hsm/tokenconf"
)

// Each attribute of RFC 7512 that chooses a token or a key chooses it, and a
// value that does not fit finds nothing.
func TestURIChoosesTokenAndKey(t *testing.T) {
	soft := newSoft(t)
	maker := openSoft(t, configOf(soft), false)
	wanted, other := makeKey(t, maker, P256, "ocsp-2026"), makeKey(t, maker, RSA2048, "other")
	serial := maker.Info().Serial
	if err := maker.Close(); err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(hexID(t, wanted))
	if err != nil {
		t.Fatal(err)
	}
	for name, uri := range map[string]tokenconf.URI{
		"token and object":  {Token: "site-a", Object: "ocsp-2026"},
		"serial and object": {Serial: serial, Object: "ocsp-2026"},
		"token and id":      {Token: "site-a", ID: id},
		"object and id":     {Token: "site-a", Object: "ocsp-2026", ID: id},
	} {
		uri.ModulePath, uri.PINSource = soft.Module, soft.PINFile
		token, err := Open(t.Context(), Config{Config: tokenconf.Config{URI: uri.String(), SoftHSM2Conf: soft.Conf}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if keys, err := token.Keys(); err != nil || len(keys) != 1 || keys[0].Label != "ocsp-2026" {
			t.Errorf("%s: lists %v, %v", name, keys, err)
		}
		if key, err := token.Signer(wanted.Public()); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if err := signOnce(key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := token.Signer(other.Public()); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: the other key: %v", name, err)
		}
		if _, err := token.GenerateKey(P256, "third"); err == nil || !strings.Contains(err.Error(), "would not be seen") {
			t.Errorf("%s: making a key that the URI excludes: %v", name, err)
		}
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, uri := range map[string]tokenconf.URI{
		"another object":                 {Token: "site-a", Object: "ocsp-2025"},
		"another id":                     {Token: "site-a", ID: []byte{1}},
		"object of one, id of the other": {Token: "site-a", Object: "other", ID: id},
	} {
		uri.ModulePath, uri.PINSource = soft.Module, soft.PINFile
		token, err := Open(t.Context(), Config{Config: tokenconf.Config{URI: uri.String(), SoftHSM2Conf: soft.Conf}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if keys, err := token.Keys(); err != nil || len(keys) != 0 {
			t.Errorf("%s: lists %v, %v", name, keys, err)
		}
		if _, err := token.Signer(wanted.Public()); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", name, err)
		}
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	uri := tokenconf.URI{Token: "site-a", Serial: "0000", ModulePath: soft.Module, PINSource: soft.PINFile}
	if token, err := Open(t.Context(), Config{Config: tokenconf.Config{URI: uri.String(), SoftHSM2Conf: soft.Conf}}); err == nil {
		_ = token.Close()
		t.Error("a token of another serial number was opened by its label")
	}
	for name, text := range map[string]string{
		"module-path": "pkcs11:token=site-a?module-path=/nowhere.so&pin-source=file:" + soft.PINFile,
		"pin-source":  "pkcs11:token=site-a?module-path=" + soft.Module + "&pin-source=file:/nowhere",
	} {
		if _, err := Open(t.Context(), Config{Config: tokenconf.Config{URI: text, SoftHSM2Conf: soft.Conf}}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInfoTellsMechanismsAndSessions(t *testing.T) {
	info := openSoft(t, configOf(newSoft(t)), false).Info()
	if got := strings.Join(info.Mechanisms, " "); got != "ECDSA RSA_PKCS EC_KEY_PAIR_GEN RSA_PKCS_KEY_PAIR_GEN" {
		t.Errorf("mechanisms: %s", got)
	}
	if info.MostOpen != 0 || info.Sessions < 1 {
		t.Errorf("sessions: %+v", info)
	}
}
