package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/faultpkcs11"
	"ocspfleet/integration/testkit/softhsm"
)

// neighbour makes a second token in the directory of the first, whose PIN
// stands in a file of its own.
func neighbour(t *testing.T, soft *softhsm.SoftToken, label, pin string) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte(pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", pin, "--pin", pin)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+soft.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	uri := tokenconf.URI{Token: label, ModulePath: soft.Module, PINSource: file}
	return Config{Config: tokenconf.Config{URI: uri.String(), SoftHSM2Conf: soft.Conf, SignTimeout: 30 * time.Second}}
}

func TestTwoTokensOfOneLibraryInOneProcess(t *testing.T) {
	soft := newSoft(t)
	other := neighbour(t, soft, "site-a-new", "only-a-test-2")
	first, second := openSoft(t, configOf(soft), true, noSelfTest), openSoft(t, other, true, noSelfTest)
	tokens := Tokens{first, second}
	keys := []crypto.Signer{makeKey(t, first, RSA2048, "a"), makeKey(t, second, P256, "a")} // labels are the token's own
	for i, key := range keys {
		found, err := tokens.Signer(key.Public())
		if err != nil {
			t.Fatalf("key %d: %v", i, err)
		}
		if err := signOnce(found); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
		if infos, err := tokens[i].Keys(); err != nil || len(infos) != 1 {
			t.Errorf("token %d lists %d keys, %v", i, len(infos), err)
		}
	}
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Signer(foreign.Public()); !errors.Is(err, ErrNoKey) {
		t.Errorf("a key that is in neither: %v", err)
	}
	for i := range 4 { // each loses its sessions, and heals beside the other
		closeAllSessions(t, tokens[i%2])
		for n, key := range keys {
			if err := signOnce(key); err != nil {
				t.Errorf("key %d after token %d lost its sessions: %v", n, i%2, err)
			}
		}
	}
	if err := tokens.Health(); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := signOnce(keys[0]); err != nil {
		t.Errorf("the first after the second was closed: %v", err)
	}
	if err := tokens.Health(); !errors.Is(err, ErrClosed) {
		t.Errorf("with one closed: %v", err)
	}
}

// H8: a second token that is not there, has another PIN or is the first one
// again is refused, and the first signs on.
func TestH8BadSecondTokenLeavesTheFirstAlone(t *testing.T) {
	soft := newSoft(t)
	good := neighbour(t, soft, "site-a-new", "only-a-test-2")
	wrongPIN := good
	wrongPIN.PINFile = soft.PINFile
	absent := configOf(soft)
	absent.URI = strings.Replace(absent.URI, "token=site-a", "token=nowhere", 1)
	elsewhere := newSoft(t) // another directory: SoftHSM knows one per process
	first := openSoft(t, configOf(soft), true, noSelfTest)
	key := makeKey(t, first, P256, "a")
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"the same token":    {configOf(soft), "open in this process already"},
		"the wrong PIN":     {wrongPIN, "refused the PIN"},
		"no such token":     {absent, `"nowhere"`},
		"another directory": {configOf(elsewhere), "one configuration per process"},
	} {
		if tokens, err := OpenTokens(t.Context(), []Config{c.cfg}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
			_ = tokens.Close()
		}
		if err := signOnce(key); err != nil {
			t.Errorf("%s: the first no longer signs: %v", name, err)
		}
	}
	second := openSoft(t, good, false)
	makeKey(t, second, P256, "b")
}

// A token that goes away and comes back beside one that stays: only a library
// that is loaded anew sees it, so its neighbour steps aside for a moment.
func TestTokenGoneAndBackBesideAnother(t *testing.T) {
	soft := newSoft(t)
	s, err := faultpkcs11.Build(t.TempDir(), soft.Module)
	if err != nil {
		t.Fatal(err)
	}
	cfg, other := configOf(soft), neighbour(t, soft, "site-a-new", "only-a-test-2")
	cfg.Module, other.Module = s.Module, s.Module
	var log lockedBuffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	other.Logger = cfg.Logger
	tokens := Tokens{openSoft(t, cfg, true), openSoft(t, other, true)}
	keys := []crypto.Signer{makeKey(t, tokens[0], P256, "a"), makeKey(t, tokens[1], P256, "b")}
	for round := range 3 {
		set(t, s, faultpkcs11.Faults{Gone: true, Sessions: round})
		eventually(t, "both are lost", func() error {
			for i, token := range tokens {
				if token.Health() == nil {
					return fmt.Errorf("token %d is well", i)
				}
			}
			return nil
		})
		set(t, s, faultpkcs11.Faults{Sessions: round + 1})
		eventually(t, "both are back", tokens.Health)
		for i, key := range keys {
			eventually(t, fmt.Sprintf("signing with key %d", i), func() error { return signOnce(key) })
		}
	}
}

// The neighbour of a token whose directory was taken away signs on, but for the
// moments at which the library is loaded anew, and those are waited out.
func TestTokenSignsOnWhileItsNeighbourIsAway(t *testing.T) {
	soft := newSoft(t)
	other := neighbour(t, soft, "site-a-new", "only-a-test-2")
	cfg := configOf(soft)
	stays, goes := openSoft(t, cfg, true), openSoft(t, other, true)
	steady, key := makeKey(t, stays, P256, "a"), makeKey(t, goes, P256, "b")
	dirs, err := filepath.Glob(filepath.Join(soft.Tokens(), "*"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("token directories: %v, %v", dirs, err)
	}
	moved := ""
	for _, dir := range dirs { // SoftHSM names it after the serial number
		if strings.HasSuffix(strings.ReplaceAll(dir, "-", ""), goes.Info().Serial) {
			moved = dir
		}
	}
	if moved == "" {
		t.Fatalf("no directory of token %s among %v", goes.Info().Serial, dirs)
	}
	away := filepath.Join(soft.Dir, "away")
	if err := os.Rename(moved, away); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is seen", func() error {
		if goes.Health() == nil {
			return errors.New("well")
		}
		return nil
	})
	for range 50 {
		if err := signOnce(steady); err != nil {
			t.Errorf("beside a token that is away: %v", err)
		}
	}
	if err := os.Rename(away, moved); err != nil {
		t.Fatal(err)
	}
	eventually(t, "signing with the key that was away", func() error { return signOnce(key) })
	if err := signOnce(steady); err != nil {
		t.Error(err)
	}
}
