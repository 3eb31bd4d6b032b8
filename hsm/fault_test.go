package hsm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/faultpkcs11"
	"ocspfleet/integration/testkit/softhsm"
)

// faulty is a SoftHSM token behind a library that makes faults.
func faulty(t *testing.T) (*faultpkcs11.Library, *softhsm.SoftToken, Config) {
	t.Helper()
	soft := newSoft(t)
	s, err := faultpkcs11.Build(t.TempDir(), soft.Module)
	if err != nil {
		t.Fatal(err)
	}
	cfg := configOf(soft)
	cfg.Module = s.Module
	cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	return s, soft, cfg
}

func noted(t *testing.T, s *faultpkcs11.Library, what string) int {
	t.Helper()
	n, err := s.Noted(what)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// H1: every session is lost under load, as when an HSM restarts. Whoever signs
// gets a right signature or ErrUnavailable, and it heals by itself.
func TestH1EverySessionLostUnderLoad(t *testing.T) {
	long(t, "is a long load")
	s, _, cfg := faulty(t)
	token := openSoft(t, cfg, true, noSelfTest)
	keys := []crypto.Signer{makeKey(t, token, P256, "a"), makeKey(t, token, RSA2048, "b")}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	ended := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer ended()
	var good atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := signOnce(keys[i%2]); {
				case err == nil:
					good.Add(1)
				case errors.Is(err, ErrUnavailable):
					time.Sleep(time.Millisecond)
				default:
					t.Errorf("under load: %v", err)
				}
			}
		})
	}
	var slowest time.Duration
	for loss := 1; loss <= 5; loss++ {
		set(t, s, faultpkcs11.Faults{Sessions: loss})
		start := time.Now()
		eventually(t, "a new login", func() error {
			if noted(t, s, "login") < 1+loss {
				return errors.New("not yet")
			}
			return nil
		})
		before := good.Load()
		eventually(t, "signing after the loss", func() error {
			if good.Load() < before+20 {
				return errors.New("not yet")
			}
			return nil
		})
		slowest = max(slowest, time.Since(start))
	}
	ended()
	t.Logf("%d signatures; 20 more within %v of each loss", good.Load(), slowest)
}

// H2: the token is pulled out and comes back. Meanwhile it is refused at once.
func TestH2TokenPulledOutAndBack(t *testing.T) {
	s, _, cfg := faulty(t)
	token := openSoft(t, cfg, true)
	key := makeKey(t, token, P256, "a")
	for round := range 3 {
		set(t, s, faultpkcs11.Faults{Gone: true, Sessions: round})
		eventually(t, "the breaker opens", func() error {
			if l, _, _ := token.state(); l != nil {
				return errors.New("closed")
			}
			return nil
		})
		for range 100 {
			if err := signOnce(key); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("without the token: %v", err)
			}
		}
		if err := token.Health(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("health without the token: %v", err)
		}
		set(t, s, faultpkcs11.Faults{Sessions: round + 1}) // handles of old are worth nothing
		eventually(t, "signing again", func() error { return signOnce(key) })
		eventually(t, "healthy again", token.Health)
	}
}

// H3: another key under the same label and id is not the key of the certificate.
func TestH3KeyReplacedByAnotherOfTheSameName(t *testing.T) {
	soft := newSoft(t)
	token := openSoft(t, configOf(soft), true)
	key := makeKey(t, token, P256, "ocsp")
	name, id, err := nameOf(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere(t, soft, "delete", hexID(t, key))
	eventually(t, "naming the lost key", func() error {
		if err := signOnce(key); !errors.Is(err, ErrNoKey) {
			return errors.New(errorText(err))
		}
		return nil
	})
	eventually(t, "making a key in the place of the other", func() error {
		l, _, reason := token.state()
		if l == nil {
			return reason // the connection is made anew while no key is left
		}
		if !l.enter() {
			return errReplaced
		}
		defer l.leave()
		_, err := l.generate(P256, id, "ocsp")
		return err
	})
	for range 20 {
		if err := signOnce(key); !errors.Is(err, ErrNoKey) && !errors.Is(err, ErrUnavailable) {
			t.Fatalf("key %s was replaced: %v", name, err)
		}
	}
	if _, err := token.Signer(key.Public()); err == nil {
		t.Error("the replaced key is found by its public key")
	}
}

// H4: after the PIN was rotated the old one is offered once, as the library
// counts, however often anybody wants a signature.
func TestH4WrongPINReachesTheTokenOnce(t *testing.T) {
	long(t, "waits between tries of a PIN")
	s, soft, cfg := faulty(t)
	var log lockedBuffer
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	hurried(token, 100*time.Millisecond) // each signature waits so long for the healing
	elsewhere(t, soft, "set-pin", "rotated-7")
	set(t, s, faultpkcs11.Faults{Sessions: 1})
	eventually(t, "saying that the PIN is wrong", func() error {
		_ = signOnce(key)
		if err := token.Health(); !errors.Is(err, tokenconf.ErrPIN) {
			return errors.New(errorText(err))
		}
		return nil
	})
	for range 20 { // further attempts to heal pass meanwhile
		_ = signOnce(key)
		time.Sleep(token.times.maxDelay / 2)
	}
	if n := noted(t, s, "login refused"); n != 1 {
		t.Errorf("the wrong PIN was offered %d times, want once", n)
	}
	if err := os.WriteFile(soft.PINFile, []byte("rotated-7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "signing with the new PIN", func() error { return signOnce(key) })
	if n := noted(t, s, "login"); n != 2 {
		t.Errorf("%d logins were granted, want 2", n)
	}
	if strings.Contains(log.String(), testPIN) || strings.Contains(log.String(), "rotated-7") {
		t.Errorf("a PIN is in the log:\n%s", log.String())
	}
}

// H4: a start with the wrong PIN costs one try, too, and names the file.
func TestH4WrongPINAtTheStartIsOneTry(t *testing.T) {
	s, soft, cfg := faulty(t)
	if err := os.WriteFile(soft.PINFile, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg); !errors.Is(err, tokenconf.ErrPIN) || !strings.Contains(err.Error(), soft.PINFile) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("opened with: %v", err)
	}
	if n := noted(t, s, "login refused"); n != 1 {
		t.Errorf("the wrong PIN was offered %d times, want once", n)
	}
}

// H5: 200 ms a signature. The queue shrinks to what can be done in time, and
// whoever is let in gets a signature.
func TestH5SlowTokenRefusesWhatItCannotDoInTime(t *testing.T) {
	long(t, "waits for a slow token")
	s, _, cfg := faulty(t)
	cfg.MaxSessions = 3
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	set(t, s, faultpkcs11.Faults{Delay: 200 * time.Millisecond})
	for range 40 {
		token.limiter.took(200 * time.Millisecond) // as 40 signatures would teach it
	}
	token.limiter.limit = 4 // sessions x (deadline / 2) / 200 ms with a deadline of 0.8 s
	results := make(chan error, 60)
	for range cap(results) {
		go func() { results <- signOnce(key) }()
	}
	var signed, busy int
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			signed++
		case errors.Is(err, ErrBusy):
			busy++
		default:
			t.Errorf("from a slow token: %v", err)
		}
	}
	if signed < 2 || busy == 0 {
		t.Errorf("%d signed, %d refused at once", signed, busy)
	}
	set(t, s, faultpkcs11.Faults{})
	eventually(t, "signing quickly again", func() error { return signOnce(key) })
}

// H5: every session hangs inside the library. No goroutine but those of the
// hanging calls stays, refusals are immediate, and it heals when they return.
func TestH5HangingLibrary(t *testing.T) {
	long(t, "waits for a library that hangs")
	s, _, cfg := faulty(t)
	cfg.MaxSessions = 3
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	hurried(token, 200*time.Millisecond)
	set(t, s, faultpkcs11.Faults{Hang: true})
	defer set(t, s, faultpkcs11.Faults{})
	eventually(t, "every session hangs", func() error {
		if err := signOnce(key); err == nil {
			return errors.New("signed")
		}
		if !token.limiter.allHung() {
			return errors.New("a session is free")
		}
		return nil
	})
	for range 1000 {
		if err := signOnce(key); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("with every session hanging: %v", err)
		}
	}
	if err := token.Health(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("health with every session hanging: %v", err)
	}
	if up := testutil.ToFloat64(cfg.Metrics.up.WithLabelValues("site-a")); up != 0 {
		t.Errorf("ocspd_token_up is %v with every session hanging", up)
	}
	set(t, s, faultpkcs11.Faults{})
	eventually(t, "signing when the calls have returned", func() error { return signOnce(key) })
	eventually(t, "healthy", token.Health)
	eventually(t, "ocspd_token_up says so", func() error {
		if up := testutil.ToFloat64(cfg.Metrics.up.WithLabelValues("site-a")); up != 1 {
			return fmt.Errorf("%v", up)
		}
		return nil
	})
}

// H5: the library hangs at the start. Who opens can be stopped.
func TestH5LibraryThatHangsAtTheStart(t *testing.T) {
	long(t, "waits for a library that hangs")
	s, _, cfg := faulty(t)
	set(t, s, faultpkcs11.Faults{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("opened a library that hangs: %v", err)
	}
	set(t, s, faultpkcs11.Faults{})
	eventually(t, "the login that hung is through, and the library let go of", func() error {
		modulesMu.Lock()
		defer modulesMu.Unlock()
		for _, m := range modules {
			if len(m.users) > 0 {
				return errors.New("not yet")
			}
		}
		return nil
	})
	if n := noted(t, s, "login"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

// H6: each tenth signature is CKR_DEVICE_ERROR: tried again on the same
// sessions, no caller sees it, no session is given up.
func TestH6IntermittentDeviceError(t *testing.T) {
	s, _, cfg := faulty(t)
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	set(t, s, faultpkcs11.Faults{Error: pkcs11.CKR_DEVICE_ERROR, ErrorEvery: 10})
	for range 100 {
		if err := signOnce(key); err != nil {
			t.Errorf("one error in ten: %v", err)
		}
	}
	if n := noted(t, s, "error made"); n < 10 {
		t.Errorf("only %d errors were made", n)
	}
	if n := testutil.ToFloat64(cfg.Metrics.rebuilds); n != 0 {
		t.Errorf("%v rebuilds for passing errors", n)
	}
	if n := testutil.ToFloat64(cfg.Metrics.retries); n < 10 {
		t.Errorf("%v tries were repeated by the metric, want at least 10", n)
	}
}

// H7: a wrong signature of any kind of key never leaves, not one of many.
func TestH7WrongSignatureNeverLeaves(t *testing.T) {
	long(t, "makes keys of every kind")
	for _, kind := range []KeyKind{P256, P384, RSA2048} {
		t.Run(string(kind), func(t *testing.T) {
			s, _, cfg := faulty(t)
			token := openSoft(t, cfg, true, noSelfTest)
			key := makeKey(t, token, kind, "a")
			set(t, s, faultpkcs11.Faults{FlipEvery: 7})
			signed := 0
			for i := range 30 {
				digest := sha256.Sum256([]byte(fmt.Sprint(i)))
				signature, err := key.Sign(nil, digest[:], crypto.SHA256)
				if err != nil {
					continue // a new connection may be unlucky, too
				}
				signed++
				if err := verify(key.Public(), digest[:], crypto.SHA256, signature); err != nil {
					t.Errorf("signature %d: %v", i, err)
				}
			}
			flipped := noted(t, s, "bit flipped")
			if flipped < 2 || signed < 10 {
				t.Errorf("%d wrong ones made, %d right ones came out of 30", flipped, signed)
			}
			t.Logf("%d wrong ones made, %d of 30 signed, %v rebuilds", flipped, signed, testutil.ToFloat64(cfg.Metrics.rebuilds))
		})
	}
}

// H9: a token that cannot write signs on; making a key fails and leaves nothing.
func TestH9TokenThatCannotWriteSignsOn(t *testing.T) {
	long(t, "mounts a disk for another process")
	s, _, cfg := faulty(t)
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	for _, code := range []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_TOKEN_WRITE_PROTECTED} {
		set(t, s, faultpkcs11.Faults{KeygenError: code})
		if _, err := token.GenerateKey(P256, "b"); err == nil {
			t.Errorf("%#x: a key was made", code)
		}
		if err := signOnce(key); err != nil {
			t.Errorf("%#x: signing afterwards: %v", code, err)
		}
		if keys, err := token.Keys(); err != nil || len(keys) != 1 {
			t.Errorf("%#x: %d keys, %v", code, len(keys), err)
		}
	}
	set(t, s, faultpkcs11.Faults{})
	makeKey(t, token, P256, "b")
}
