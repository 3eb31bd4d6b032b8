package hsm

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ocspfleet/integration/testkit/softhsm"
)

func TestSignManyAtATime(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.MaxSessions, cfg.SignTimeout = 3, time.Minute // 64 may wait for 2 while one takes less than a second
	registry := prometheus.NewPedanticRegistry()
	cfg.Metrics = NewMetrics(registry)
	token := openSoft(t, cfg, true)
	keys := []crypto.Signer{makeKey(t, token, P256, "a"), makeKey(t, token, RSA2048, "b")}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 4 {
				if err := signOnce(keys[i%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := testutil.ToFloat64(cfg.Metrics.queue); got != 0 {
		t.Errorf("%v still wait", got)
	}
	for name, want := range map[string]int{
		"ocspd_sign_duration_seconds": 1, "ocspd_sign_errors_total": len(signErrorClasses),
		"ocspd_token_rebuilds_total": 1, "ocspd_token_queue": 1,
	} {
		if got, err := testutil.GatherAndCount(registry, name); err != nil || got != want {
			t.Errorf("%s: %d series, %v; want %d", name, got, err, want)
		}
	}
}

func TestSignRefusesWhatItCannotVerify(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	key := makeKey(t, token, RSA2048, "a")
	digest := sha256.Sum256(nil)
	for name, try := range map[string]func() ([]byte, error){
		"PSS":             func() ([]byte, error) { return key.Sign(nil, digest[:], &rsa.PSSOptions{Hash: crypto.SHA256}) },
		"no hash":         func() ([]byte, error) { return key.Sign(nil, digest[:], crypto.Hash(0)) },
		"length mismatch": func() ([]byte, error) { return key.Sign(nil, digest[:31], crypto.SHA256) },
		"no options":      func() ([]byte, error) { return key.Sign(nil, digest[:], nil) },
	} {
		if signature, err := try(); !errors.Is(err, errUnsupported) || signature != nil {
			t.Errorf("%s: %x, %v", name, signature, err)
		}
	}
	if err := token.Health(); err != nil {
		t.Errorf("a refused request disturbed the token: %v", err)
	}
}

// One faulty CRT signature reveals an RSA key, so none may leave.
func TestWrongRSASignatureNeverLeaves(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), true, noSelfTest) // it would put the real key in again
	key := makeKey(t, token, RSA2048, "a")
	var flipped atomic.Int32
	replaceKey(t, token, key, func(real crypto.Signer) crypto.Signer {
		return fake{real, func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			signature, err := real.Sign(nil, digest, opts)
			if err == nil {
				signature[100] ^= 4
				flipped.Add(1)
			}
			return signature, err
		}}
	})
	if err := signOnce(key); err != nil { // signs again on fresh sessions, where the key is the real one
		t.Errorf("after the wrong signature: %v", err)
	}
	if n := flipped.Load(); n != 1 {
		t.Errorf("%d wrong signatures made, want 1", n)
	}
}

// One wrong signature in a row of right ones, of the kind that is cheap to make.
func TestWrongECDSASignatureNeverLeaves(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	key := makeKey(t, token, P256, "a")
	hurried(token, time.Second) // nobody heals here
	replaceKey(t, token, key, func(real crypto.Signer) crypto.Signer {
		return fake{real, func([]byte, crypto.SignerOpts) ([]byte, error) { return []byte("no signature"), nil }}
	})
	digest := sha256.Sum256(nil)
	if _, err := key.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrBadSignature) && !errors.Is(err, ErrUnavailable) {
		t.Errorf("the wrong signature: %v", err)
	}
}

// A passing fault of the device costs one more try and no rebuild.
func TestPassingDeviceErrorIsRetried(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	var calls atomic.Int32
	replaceKey(t, token, key, func(real crypto.Signer) crypto.Signer {
		return fake{real, func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			if calls.Add(1)%10 == 0 {
				return nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
			}
			return real.Sign(nil, digest, opts)
		}}
	})
	for range 25 {
		if err := signOnce(key); err != nil {
			t.Error(err)
		}
	}
	if n := testutil.ToFloat64(cfg.Metrics.rebuilds); n != 0 {
		t.Errorf("%v rebuilds", n)
	}
}

// hang makes every signature of the key wait until release is called.
func hang(t *testing.T, token *Token, key crypto.Signer) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	replaceKey(t, token, key, func(real crypto.Signer) crypto.Signer {
		return fake{real, func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			<-gate
			return real.Sign(nil, digest, opts)
		}}
	})
	return sync.OnceFunc(func() { close(gate) })
}

func TestHangingTokenHoldsBoundedGoroutinesAndIsRefusedAtOnce(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.MaxSessions = 3
	token := openSoft(t, cfg, false)
	key := makeKey(t, token, P256, "a")
	hurried(token, 100*time.Millisecond)
	release := hang(t, token, key)
	defer release()
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := signOnce(key); !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrBusy) {
				t.Errorf("while the token hangs: %v", err)
			}
		})
	}
	wg.Wait()
	start := time.Now()
	for range 1000 {
		if err := signOnce(key); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("with every session hanging: %v", err)
		}
	}
	if took := time.Since(start); took > time.Minute { // waiting for each would take 100 s
		t.Errorf("1000 refusals took %v", took)
	}
	eventually(t, "only those of the two hanging calls stay", func() error {
		if now := runtime.NumGoroutine(); now > before+2 {
			return fmt.Errorf("%d goroutines before, %d after", before, now)
		}
		return nil
	})
	if err := token.Health(); err == nil {
		t.Error("healthy while every session hangs")
	}
	release()
	eventually(t, "signing again when the calls have returned", func() error { return signOnce(key) })
	if err := token.Health(); err != nil {
		t.Error(err)
	}
}

// The old connection cannot be closed while a call hangs in it; the new one is made beside it.
func TestLostTokenHealsBesideAHangingCall(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.MaxSessions = 3
	token := openSoft(t, cfg, true, noSelfTest)
	hanging, other := makeKey(t, token, P256, "a"), makeKey(t, token, P256, "b")
	hurried(token, 100*time.Millisecond)
	release := hang(t, token, hanging)
	defer release()
	if err := signOnce(hanging); !errors.Is(err, ErrTimeout) {
		t.Errorf("the hanging call: %v", err)
	}
	l, _, _ := token.state()
	token.lose(l, errors.New("lost in a test"))
	eventually(t, "signing with the other key", func() error { return signOnce(other) })
	eventually(t, "signing with the key whose call hung", func() error { return signOnce(hanging) })
	release()
	eventually(t, "closing the old connection", func() error {
		if l.enter() {
			l.leave()
			return errors.New("open")
		}
		return nil
	})
	if err := signOnce(other); err != nil {
		t.Errorf("after the old connection was closed: %v", err)
	}
}

func TestCloseDoesNotWaitForAHangingCall(t *testing.T) {
	cfg := configOf(newSoft(t))
	token, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	makeKey(t, token, P256, "a")
	hurried(token, 50*time.Millisecond)
	// A crypto11 session that is not put back, as a hanging call holds it.
	inside, release := make(chan struct{}), make(chan struct{})
	token.module.building.Lock()
	go func() {
		close(inside)
		<-release
		token.module.building.Unlock()
	}()
	<-inside
	if err := token.Close(); err == nil { // and it returns, with the call still inside
		t.Error("Close says that all is closed")
	}
	close(release)
	eventually(t, "letting go of the library", func() error {
		again, err := Open(t.Context(), cfg)
		if err != nil {
			return err
		}
		return again.Close()
	})
}

func TestQueueIsBounded(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.MaxSessions, cfg.MaxQueue = 2, 3
	token := openSoft(t, cfg, false)
	key := makeKey(t, token, P256, "a")
	release := hang(t, token, key)
	defer release()
	results := make(chan error, 20)
	for range 20 {
		go func() { results <- signOnce(key) }()
	}
	for range 20 - 1 - 3 { // one signs, three wait, the rest is refused while the token hangs
		if err := <-results; !errors.Is(err, ErrBusy) {
			t.Errorf("refused with %v", err)
		}
	}
	release()
	for range 4 {
		if err := <-results; err != nil {
			t.Errorf("one who waited: %v", err)
		}
	}
}

func TestQueueBoundFollowsTheSigningTime(t *testing.T) {
	g := newLimiter(2, 0, 2*time.Second, NewMetrics(nil).queue)
	slow := g.bound()
	if slow != 2*200 { // 2 sessions x 1 s / 5 ms
		t.Errorf("at first: %d", slow)
	}
	for range 200 {
		g.took(50 * time.Millisecond)
	}
	if n := g.bound(); n < 38 || n > 45 { // 2 x 1 s / 50 ms
		t.Errorf("at 50 ms: %d", n)
	}
	for range 200 {
		g.took(50 * time.Microsecond)
	}
	if n := g.bound(); n != maxWaiting {
		t.Errorf("at 50 us: %d", n)
	}
	for range 200 {
		g.took(time.Minute)
	}
	if n := g.bound(); n != 2 {
		t.Errorf("at 1 min: %d", n)
	}
}

// The caller may use its buffer again as soon as Sign has returned.
func TestDigestOfATimedOutCallIsACopy(t *testing.T) {
	cfg := configOf(newSoft(t))
	token := openSoft(t, cfg, false)
	key := makeKey(t, token, P256, "a")
	hurried(token, 20*time.Millisecond)
	gate, seen := make(chan struct{}), make(chan []byte, 1)
	replaceKey(t, token, key, func(real crypto.Signer) crypto.Signer {
		return fake{real, func(digest []byte, _ crypto.SignerOpts) ([]byte, error) {
			<-gate
			seen <- slices.Clone(digest)
			return nil, errUnsupported
		}}
	})
	want := sha256.Sum256([]byte("x"))
	buffer := slices.Clone(want[:])
	if _, err := key.Sign(nil, buffer, crypto.SHA256); !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v", err)
	}
	clear(buffer)
	close(gate)
	if got := <-seen; !bytes.Equal(got, want[:]) {
		t.Errorf("the call saw %x", got)
	}
}

// BenchmarkSign compares a signer of ours, which verifies, with crypto11's own in
// a bare loop, and shows what verifying costs of it.
func BenchmarkSign(b *testing.B) {
	soft, err := softhsm.New(b.TempDir(), "site-a", testPIN)
	if err != nil {
		b.Fatal(err)
	}
	token, err := Open(b.Context(), configOf(soft))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = token.Close() }()
	digest := sha256.Sum256(nil)
	for _, kind := range []KeyKind{P256, P384, RSA2048, RSA3072} {
		key, err := token.GenerateKey(kind, string(kind))
		if err != nil {
			b.Fatal(err)
		}
		name, _, err := nameOf(key.Public())
		if err != nil {
			b.Fatal(err)
		}
		l, _, _ := token.state()
		signature, err := key.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(string(kind)+"/verify", func(b *testing.B) {
			for b.Loop() {
				if err := verify(key.Public(), digest[:], crypto.SHA256, signature); err != nil {
					b.Fatal(err)
				}
			}
		})
		for what, k := range map[string]crypto.Signer{"ours": key, "bare": l.signer(name)} {
			b.Run(string(kind)+"/"+what, func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
