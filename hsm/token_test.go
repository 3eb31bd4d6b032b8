package hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/softhsm"
)

func TestOpenErrorsNameTheFix(t *testing.T) {
	soft := newSoft(t)
	module := "?module-path=" + soft.Module
	pin := "&pin-source=" + soft.PINFile
	empty := filepath.Join(t.TempDir(), "empty")
	wrong := filepath.Join(t.TempDir(), "wrong")
	for path, content := range map[string]string{empty: "\n", wrong: "hunter2\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		uri  string
		conf string
		want []string
	}{
		"no library given": {"pkcs11:token=site-a?pin-source=" + soft.PINFile, "", []string{"module-path"}},
		"no token given":   {"pkcs11:" + module + pin, "", []string{"token=LABEL"}},
		"no PIN given":     {"pkcs11:token=site-a" + module, "", []string{"pin-source"}},
		"library missing":  {"pkcs11:token=site-a?module-path=/nowhere/libsofthsm2.so" + pin, "", []string{"/nowhere/libsofthsm2.so", "softhsm2"}},
		"no library at all": {
			"pkcs11:token=site-a?module-path=/etc/hostname" + pin, "",
			[]string{"/etc/hostname", "no loadable"},
		},
		"no such label":    {"pkcs11:token=site-b" + module + pin, soft.Conf, []string{`"site-b"`, `"site-a"`}},
		"no such serial":   {"pkcs11:serial=0123" + module + pin, soft.Conf, []string{"0123", `"site-a"`}},
		"another model":    {"pkcs11:token=site-a;model=Luna" + module + pin, soft.Conf, []string{"Luna", "SoftHSM v2"}},
		"PIN file missing": {"pkcs11:token=site-a" + module + "&pin-source=/nowhere/pin", soft.Conf, []string{"PIN", "/nowhere/pin"}},
		"PIN file empty":   {"pkcs11:token=site-a" + module + "&pin-source=" + empty, soft.Conf, []string{"empty"}},
		"PIN wrong":        {"pkcs11:token=site-a" + module + "&pin-source=" + wrong, soft.Conf, []string{"PIN", wrong, "not offered again"}},
		"no configuration": {"pkcs11:token=site-a" + module + pin, "/nowhere/softhsm2.conf", []string{"/nowhere/softhsm2.conf"}},
	} {
		token, err := Open(t.Context(), Config{Config: tokenconf.Config{URI: c.uri, SoftHSM2Conf: c.conf}})
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = token.Close()
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", name, want, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testPIN) {
			t.Errorf("%s: the error repeats the PIN: %v", name, err)
		}
		if wrongPIN := name == "PIN wrong"; errors.Is(err, tokenconf.ErrPIN) != wrongPIN {
			t.Errorf("%s: ErrPIN: %v", name, err)
		}
	}
	// Every failure let go of the library, so the right one opens.
	token := openSoft(t, configOf(soft), false)
	info := token.Info()
	if info.Label != "site-a" || info.Model != "SoftHSM v2" || info.Serial == "" || info.Sessions < 1 {
		t.Errorf("Info: %+v", info)
	}
}

// A second user of the library could finalise it under the first, or log in
// with any PIN; it is refused before the library hears of it.
func TestSecondOpenOfTheLibraryIsRefused(t *testing.T) {
	soft := newSoft(t)
	token := openSoft(t, configOf(soft), false)
	key := makeKey(t, token, P256, "a")
	if second, err := Open(t.Context(), configOf(soft)); err == nil {
		_ = second.Close()
		t.Error("opened twice")
	} else if !strings.Contains(err.Error(), "open in this process already") {
		t.Error(err)
	}
	if err := signOnce(key); err != nil {
		t.Errorf("the first token no longer signs: %v", err)
	}
}

func TestTokensOneAfterAnother(t *testing.T) {
	for range 3 { // each with its own SOFTHSM2_CONF, set while the process runs
		token, err := Open(t.Context(), configOf(newSoft(t)))
		if err != nil {
			t.Fatal(err)
		}
		if keys, err := token.Keys(); err != nil || len(keys) != 0 {
			t.Errorf("a fresh token: %d keys, %v", len(keys), err)
		}
		makeKey(t, token, P256, "a")
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseTwiceThenEverythingSaysClosed(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), true)
	key := makeKey(t, token, P256, "a")
	for range 2 {
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := signOnce(key); !errors.Is(err, ErrClosed) {
		t.Errorf("Sign: %v", err)
	}
	if err := token.Health(); !errors.Is(err, ErrClosed) {
		t.Errorf("Health: %v", err)
	}
	if _, err := token.Signer(key.Public()); !errors.Is(err, ErrClosed) {
		t.Errorf("Signer: %v", err)
	}
	if _, err := token.Keys(); !errors.Is(err, ErrClosed) {
		t.Errorf("Keys: %v", err)
	}
	if _, err := token.GenerateKey(P256, "b"); !errors.Is(err, ErrClosed) {
		t.Errorf("GenerateKey: %v", err)
	}
}

// Possession is asked of the token for keys of every kind that a row may hold.
func TestSignerOfAKeyThatIsElsewhere(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	own := makeKey(t, token, P256, "a")
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		foreign, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Signer(foreign.Public()); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Signer(other.Public()); !errors.Is(err, errUnsupported) {
		t.Errorf("P-521: %v", err)
	}
	if err := token.Health(); err != nil {
		t.Errorf("asking for foreign keys disturbed the token: %v", err)
	}
	if err := signOnce(own); err != nil {
		t.Error(err)
	}
}

func TestTokenBySerialNumber(t *testing.T) {
	soft := newSoft(t)
	first := openSoft(t, configOf(soft), false)
	serial := first.Info().Serial
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	uri := tokenconf.URI{Token: soft.Label, Serial: serial, Manufacturer: "SoftHSM project"}
	token := openSoft(t, Config{Config: tokenconf.Config{URI: uri.String(), Module: soft.Module, PINFile: soft.PINFile, SoftHSM2Conf: soft.Conf}}, false)
	if got := token.Info().Serial; got != serial {
		t.Errorf("serial %s, want %s", got, serial)
	}
}

func TestSoftHSMTokenFiles(t *testing.T) {
	soft := newSoft(t)
	info, err := os.Stat(soft.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("PIN file has mode %v", info.Mode())
	}
	if _, err := softhsm.New(soft.Dir, "again", testPIN); err == nil {
		t.Error("made a token over another one")
	}
	for _, dir := range []string{"with space", "with;semi&amp?question%41+plus"} {
		odd, err := softhsm.New(filepath.Join(t.TempDir(), dir), "label;of & a?token%41", testPIN)
		if err != nil {
			t.Fatal(err)
		}
		uri, err := tokenconf.ParseURI(odd.URI())
		if err != nil {
			t.Fatal(err)
		}
		if uri.Token != odd.Label || uri.PINSource != odd.PINFile || uri.ModulePath != odd.Module {
			t.Errorf("%s: read back as %+v", odd.URI(), uri)
		}
	}
}

// What is not the token of the URI never hears the PIN (RFC 7512 section 2.3).
func TestPINIsOfferedToNoOtherToken(t *testing.T) {
	s, soft, cfg := faulty(t)
	for _, uri := range []tokenconf.URI{{Token: "site-a", Model: "Luna"}, {Token: "site-a", Manufacturer: "Thales"}, {Token: "site-a", Serial: "0123"}, {Token: "site-b"}} {
		uri.PINSource = soft.PINFile
		cfg.URI = uri.String()
		if token, err := Open(t.Context(), cfg); err == nil {
			_ = token.Close()
			t.Errorf("%s: opened", uri)
		}
	}
	if n := noted(t, s, "login") + noted(t, s, "login refused"); n != 0 {
		t.Errorf("the PIN was offered %d times", n)
	}
	cfg.URI = tokenconf.URI{Token: "site-a", Manufacturer: "SoftHSM project", PINSource: soft.PINFile}.String()
	openSoft(t, cfg, false)
	if n := noted(t, s, "login"); n != 1 {
		t.Errorf("%d logins at the right token", n)
	}
}
