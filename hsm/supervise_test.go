package hsm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ocspfleet/hsm/tokenconf"
)

// closeAllSessions is what an HSM restart or a dropped connection looks like.
// Nobody is inside the library meanwhile: SoftHSM frees the sessions under them.
func closeAllSessions(t *testing.T, token *Token) {
	t.Helper()
	for range cap(token.limiter.slots) {
		token.limiter.slots <- struct{}{}
	}
	defer func() {
		for range cap(token.limiter.slots) {
			token.limiter.leave()
		}
	}()
	token.module.building.Lock()
	defer token.module.building.Unlock()
	token.mu.Lock()
	slot := token.slot
	token.mu.Unlock()
	if err := token.module.ctx.CloseAllSessions(slot); err != nil {
		t.Fatal(err)
	}
}

func TestLostSessionsHealWithinTheFailingSignature(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	token := openSoft(t, cfg, true, noSelfTest)
	keys := []crypto.Signer{makeKey(t, token, P256, "a"), makeKey(t, token, RSA2048, "b")}
	for range 3 {
		closeAllSessions(t, token)
		for _, key := range keys {
			if err := signOnce(key); err != nil {
				t.Errorf("the first signature after the loss: %v", err)
			}
		}
		if err := token.Health(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "counting three rebuilds", func() error {
		if n := testutil.ToFloat64(cfg.Metrics.rebuilds); n != 3 {
			return fmt.Errorf("%v counted", n)
		}
		return nil
	})
}

func TestLostSessionsUnderLoad(t *testing.T) {
	cfg := configOf(newSoft(t))
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var good, other atomic.Int64
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := signOnce(key); {
				case err == nil:
					good.Add(1)
				case errors.Is(err, ErrUnavailable):
					other.Add(1)
					time.Sleep(time.Millisecond) // as a client would, not a spin
				default:
					t.Errorf("under load: %v", err)
				}
			}
		})
	}
	for range 5 {
		before := good.Load()
		closeAllSessions(t, token)
		eventually(t, "signing after the loss", func() error {
			if good.Load() < before+20 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	close(stop)
	wg.Wait()
	t.Logf("%d signatures, %d refused while healing", good.Load(), other.Load())
}

// Found by the self-test, so that the first client is not the one to find it.
func TestIdleTokenHealsWithoutASignature(t *testing.T) {
	cfg := configOf(newSoft(t))
	cfg.Metrics = NewMetrics(prometheus.NewRegistry())
	token := openSoft(t, cfg, true)
	makeKey(t, token, P256, "a")
	closeAllSessions(t, token)
	eventually(t, "healing while idle", func() error {
		if testutil.ToFloat64(cfg.Metrics.rebuilds) == 0 {
			return errors.New("no rebuild")
		}
		return token.Health()
	})
}

func TestTokenGoneAndBackHealsWithoutAnOperator(t *testing.T) {
	soft := newSoft(t)
	cfg := configOf(soft)
	token := openSoft(t, cfg, true)
	key := makeKey(t, token, P256, "a")
	for round := range 2 {
		away := soft.Tokens() + ".away"
		if err := os.Rename(soft.Tokens(), away); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(soft.Tokens(), 0o700); err != nil {
			t.Fatal(err)
		}
		eventually(t, "Health saying what is the matter", func() error {
			if err := token.Health(); err == nil || !strings.Contains(err.Error(), "the token is in none") {
				return errors.New(errorText(err))
			}
			return nil
		})
		start := time.Now()
		if err := signOnce(key); !errors.Is(err, ErrUnavailable) || time.Since(start) > cfg.SignTimeout/2 {
			t.Errorf("with the breaker open: %v after %v", err, time.Since(start))
		}
		// By a rename: the supervisor writes into it to see whether there is space.
		if err := os.Rename(soft.Tokens(), fmt.Sprintf("%s.empty%d", soft.Tokens(), round)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(away, soft.Tokens()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "signing again", func() error { return signOnce(key) })
		eventually(t, "healthy again", token.Health)
	}
}

// SoftHSM says of every key that it is not there once its directory was away;
// an idle process must not believe that for ever.
func TestTokenAwayWhileIdleIsNotTakenForKeysDeleted(t *testing.T) {
	soft := newSoft(t)
	token := openSoft(t, configOf(soft), true)
	key := makeKey(t, token, P256, "a")
	away := soft.Tokens() + ".away"
	if err := os.Rename(soft.Tokens(), away); err != nil {
		t.Fatal(err)
	}
	eventually(t, "seeing the loss", func() error {
		if token.Health() == nil {
			return errors.New("healthy")
		}
		return nil
	})
	if err := os.Rename(away, soft.Tokens()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healing", token.Health)
	if err := signOnce(key); err != nil {
		t.Error(err)
	}
}

func TestKeyDeletedByAnotherProcess(t *testing.T) {
	soft := newSoft(t)
	token := openSoft(t, configOf(soft), true)
	deleted, other := makeKey(t, token, P256, "a"), makeKey(t, token, P384, "b")
	elsewhere(t, soft, "delete", hexID(t, deleted))
	eventually(t, "naming the lost key", func() error {
		if err := signOnce(deleted); !errors.Is(err, ErrNoKey) {
			return errors.New(errorText(err))
		}
		return nil
	})
	eventually(t, "signing with the other key", func() error { return signOnce(other) })
	if err := token.Health(); err != nil {
		t.Errorf("one of two keys is lost: %v", err)
	}
	if _, err := token.Signer(deleted.Public()); !errors.Is(err, ErrNoKey) {
		t.Errorf("possession of a deleted key: %v", err)
	}
	elsewhere(t, soft, "delete", hexID(t, other))
	eventually(t, "unhealthy without any key", func() error {
		if err := token.Health(); !errors.Is(err, ErrNoKey) {
			return errors.New(errorText(err))
		}
		return nil
	})
}

func TestKeyMadeByAnotherProcessIsFound(t *testing.T) {
	// Another process is, to SoftHSM, another Open: the first is closed meanwhile.
	soft := newSoft(t)
	first := openSoft(t, configOf(soft), false)
	public := makeKey(t, first, P256, "a").Public()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openSoft(t, configOf(soft), false)
	key, err := second.Signer(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := signOnce(key); err != nil {
		t.Error(err)
	}
}

// Real tokens lock after a few wrong PINs.
func TestWrongPINIsTriedOnceUntilTheFileChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("waits between tries of a PIN")
	}
	soft := newSoft(t)
	cfg := configOf(soft)
	var log lockedBuffer
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	token := openSoft(t, cfg, false)
	key := makeKey(t, token, P256, "a")
	hurried(token, time.Second)
	var dials atomic.Int32
	token.dial = func(module string, s tokenconf.Settings, at place, pin string) (*connection, error) {
		dials.Add(1)
		return dial(module, s, at, pin)
	}
	stop := supervise(t, token)
	defer stop()

	elsewhere(t, soft, "set-pin", "rotated-7")
	closeAllSessions(t, token)
	if err := signOnce(key); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with the wrong PIN: %v", err)
	}
	eventually(t, "saying that the PIN is wrong", func() error {
		if err := token.Health(); !errors.Is(err, tokenconf.ErrPIN) {
			return errors.New(errorText(err))
		}
		return nil
	})
	time.Sleep(10 * token.times.maxDelay) // ten attempts' worth: none may reach the token
	if n := dials.Load(); n != 1 {
		t.Errorf("the wrong PIN was offered %d times", n)
	}
	if err := os.WriteFile(soft.PINFile, []byte("rotated-7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "signing with the new PIN", func() error { return signOnce(key) })
	if n := dials.Load(); n != 2 {
		t.Errorf("%d logins in all, want 2", n)
	}
	for _, secret := range []string{testPIN, "rotated-7"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("a PIN is in the log:\n%s", log.String())
		}
	}
	if !strings.Contains(log.String(), "PIN") {
		t.Errorf("the log does not speak of the PIN:\n%s", log.String())
	}
}

// A token that is lost again at once is not hammered.
func TestRebuildsBackOff(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	makeKey(t, token, P256, "a")
	token.times.firstDelay, token.times.maxDelay = 20*time.Millisecond, 80*time.Millisecond
	var mu sync.Mutex
	var at []time.Time
	token.dial = func(string, tokenconf.Settings, place, string) (*connection, error) {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		return nil, errors.New("no answer")
	}
	closeAllSessions(t, token)
	l, _, _ := token.state()
	token.lose(l, errors.New("lost"))
	stop := supervise(t, token)
	eventually(t, "five attempts", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(at) < 5 {
			return errors.New("not yet")
		}
		return nil
	})
	stop()
	mu.Lock()
	defer mu.Unlock()
	for i, least := range []time.Duration{20, 40, 80, 80} {
		if gap := at[i+1].Sub(at[i]); gap < least*time.Millisecond {
			t.Errorf("attempt %d came after %v, want %d ms", i+2, gap, least)
		}
	}
}

func TestPINFileReadableByOthersIsWarnedOf(t *testing.T) {
	soft := newSoft(t)
	if err := os.Chmod(soft.PINFile, 0o644); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	cfg := configOf(soft)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	openSoft(t, cfg, false)
	if !strings.Contains(log.String(), "chmod 600") {
		t.Errorf("no warning: %s", log.String())
	}
}

// supervise starts Run and returns what stops it.
func supervise(t *testing.T, token *Token) (stop func()) {
	t.Helper()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		if err := token.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// lockedBuffer is a bytes.Buffer that a logger in the background may write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
