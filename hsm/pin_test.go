package hsm

import (
	"crypto/sha1" //nolint:gosec // of the PIN, to see that nobody keeps it
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/faultpkcs11"
)

// offered counts the PINs that the token was shown.
func offered(t *testing.T, s *faultpkcs11.Library) int {
	t.Helper()
	return noted(t, s, "login") + noted(t, s, "login refused")
}

// refused opens the token, which must not go.
func refused(t *testing.T, cfg Config) error {
	t.Helper()
	token, err := Open(t.Context(), cfg)
	if err == nil {
		_ = token.Close()
		t.Fatal("opened")
	}
	return err
}

// A daemon that is started again 28 times a minute locks a real token within seconds:
// each start is a new process, which knows of the refusal by StateDir alone.
func TestWrongPINIsOfferedOnceAcrossProcesses(t *testing.T) {
	s, soft, cfg := faulty(t)
	cfg.StateDir = filepath.Join(t.TempDir(), "state")
	wrong := func(pin string) {
		t.Helper()
		if err := os.WriteFile(soft.PINFile, []byte(pin+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wrong("hunter2-wrong")
	for range 5 {
		if err := refused(t, cfg); !errors.Is(err, tokenconf.ErrPIN) || !strings.Contains(err.Error(), soft.PINFile) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
	if n := offered(t, s); n != 1 {
		t.Errorf("the wrong PIN was offered %d times in five processes, want once", n)
	}
	if err := refused(t, cfg); !strings.Contains(err.Error(), "touch "+soft.PINFile) {
		t.Errorf("the fix is not named: %v", err)
	}
	keepsNothingOf(t, cfg.StateDir, "hunter2-wrong")

	wrong("wrong-again-1") // of the same length, in the same inode
	for range 3 {
		_ = refused(t, cfg)
	}
	if n := offered(t, s); n != 2 {
		t.Errorf("two wrong PINs were offered %d times", n)
	}
	now := time.Now()
	if err := os.Chtimes(soft.PINFile, now, now); err != nil { // as touch does
		t.Fatal(err)
	}
	_, _ = refused(t, cfg), refused(t, cfg)
	if n := offered(t, s); n != 3 {
		t.Errorf("a touched file was offered %d times in all, want 3", n)
	}

	wrong(testPIN)
	token, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(cfg.StateDir); err != nil || len(left) != 0 {
		t.Errorf("after the right PIN %v is left, %v", left, err)
	}
}

// keepsNothingOf looks for a PIN, its hash and its length's content in all files.
func keepsNothingOf(t *testing.T, dir, pin string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	all := files[0].Name() + string(text)
	for _, secret := range []string{pin, pin + "\n"} {
		long, short := sha256.Sum256([]byte(secret)), sha1.Sum([]byte(secret)) //nolint:gosec // see above
		for _, trace := range []string{secret, hex.EncodeToString(long[:4]), hex.EncodeToString(short[:4]), base64.StdEncoding.EncodeToString(long[:])[:8]} {
			if strings.Contains(all, trace) {
				t.Errorf("%q is in %q", trace, all)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(dir, files[0].Name())); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}

// What could not be remembered is not asked for: the next start would offer it again.
func TestNoPINIsOfferedThatCannotBeRemembered(t *testing.T) {
	s, soft, cfg := faulty(t)
	cfg.StateDir = filepath.Join(soft.PINFile, "state") // below a file
	if err := refused(t, cfg); errors.Is(err, tokenconf.ErrPIN) || !strings.Contains(err.Error(), "state_dir") || !strings.Contains(err.Error(), cfg.StateDir) {
		t.Errorf("%v", err)
	}
	if n := offered(t, s); n != 0 {
		t.Errorf("the PIN was offered %d times", n)
	}
}

// A full disk is no reason to leave a token lost that has taken this PIN before; and
// once it is refused, this process at least remembers.
func TestHealingGoesOnWithoutStateDir(t *testing.T) {
	s, soft, cfg := faulty(t)
	cfg.StateDir = filepath.Join(t.TempDir(), "state")
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	if err := os.Remove(cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.StateDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	set(t, s, faultpkcs11.Faults{Sessions: 1})
	eventually(t, "signing again", func() error { return signOnce(key) })
	elsewhere(t, soft, "set-pin", "rotated-7")
	before := offered(t, s)
	set(t, s, faultpkcs11.Faults{Sessions: 2})
	hurried(token, 100*time.Millisecond)
	eventually(t, "saying that the PIN is wrong", func() error {
		_ = signOnce(key)
		if err := token.Health(); !errors.Is(err, tokenconf.ErrPIN) {
			return errors.New(errorText(err))
		}
		return nil
	})
	time.Sleep(5 * token.times.maxDelay)
	if n := offered(t, s) - before; n != 1 {
		t.Errorf("the wrong PIN was offered %d times", n)
	}
}

// A refusal while it runs is known at the next start, too.
func TestWrongPINOfARunningProcessIsRememberedForTheNext(t *testing.T) {
	s, soft, cfg := faulty(t)
	cfg.StateDir = t.TempDir()
	token := openSoft(t, cfg, true, noSelfTest)
	makeKey(t, token, P256, "a")
	elsewhere(t, soft, "set-pin", "rotated-7")
	set(t, s, faultpkcs11.Faults{Sessions: 1})
	hurried(token, 100*time.Millisecond)
	eventually(t, "saying that the PIN is wrong", func() error {
		token.testKeys(t.Context())
		if err := token.Health(); !errors.Is(err, tokenconf.ErrPIN) {
			return errors.New(errorText(err))
		}
		return nil
	})
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	before := offered(t, s)
	if err := refused(t, cfg); !errors.Is(err, tokenconf.ErrPIN) {
		t.Error(err)
	}
	if n := offered(t, s) - before; n != 0 {
		t.Errorf("the next process offered it %d times more", n)
	}
}

// Two tokens of one label: which is meant cannot be known, and the PIN of one is a
// wrong one at the other.
func TestTwoTokensThatMatchTheURIAreRefusedBeforeAnyPIN(t *testing.T) {
	s, soft, cfg := faulty(t)
	twin := neighbour(t, soft, "site-a", "another-pin-2")
	twin.Module = s.Module
	for _, c := range []Config{cfg, twin} {
		err := refused(t, c)
		if errors.Is(err, tokenconf.ErrPIN) || strings.Count(err.Error(), "serial=") != 2 {
			t.Errorf("%v", err)
		}
	}
	if n := offered(t, s); n != 0 {
		t.Fatalf("a PIN was offered %d times", n)
	}
	// The serial that it names chooses: of two tries one is this PIN's token.
	_, wishes, _ := strings.Cut(refused(t, cfg).Error(), "serial=")
	first, rest, _ := strings.Cut(wishes, ", serial=")
	second, _, _ := strings.Cut(rest, " ")
	opened := 0
	for _, serial := range []string{first, second} {
		c := cfg
		c.URI = strings.Replace(cfg.URI, "token=site-a", "token=site-a;serial="+serial, 1)
		token, err := Open(t.Context(), c)
		if err != nil {
			if !errors.Is(err, tokenconf.ErrPIN) {
				t.Errorf("serial %s: %v", serial, err)
			}
			continue
		}
		opened++
		if token.Info().Serial != serial {
			t.Errorf("opened %s, want %s", token.Info().Serial, serial)
		}
		_ = token.Close()
	}
	if opened != 1 {
		t.Errorf("%d of the two took the PIN", opened)
	}
}

// A twin that comes while we run is offered nothing, and keeps nobody from healing: the
// process knows which of the two it had.
func TestTwinOfARunningTokenIsOfferedNothing(t *testing.T) {
	s, soft, cfg := faulty(t)
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	for i := range 3 { // SoftHSM orders slots by the serial numbers, which are random
		neighbour(t, soft, "site-a", "another-pin-2")
		set(t, s, faultpkcs11.Faults{Sessions: i + 1})
		eventually(t, "signing again", func() error { return signOnce(key) })
	}
	if n := noted(t, s, "login refused"); n != 0 {
		t.Errorf("the PIN was offered to a twin %d times", n)
	}
	if err := refused(t, Config{Config: tokenconf.Config{URI: cfg.URI, Module: soft.Module, SoftHSM2Conf: soft.Conf}}); strings.Count(err.Error(), "serial=") != 4 {
		t.Errorf("a start: %v", err)
	}
}
