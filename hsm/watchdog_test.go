package hsm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/faultpkcs11"
)

// watched runs Watch and returns what it came back with.
func watched(ctx context.Context, tokens Tokens, limit time.Duration) <-chan error {
	result := make(chan error, 1)
	go func() { result <- tokens.Watch(ctx, limit) }()
	return result
}

// H5: every session hangs inside a signature, for longer than the limit.
func TestWatchGivesUpOnALibraryThatNeverReturns(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a library that hangs")
	}
	s, _, cfg := faulty(t)
	cfg.MaxSessions = 3
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	hurried(token, 100*time.Millisecond)
	given := watched(t.Context(), Tokens{token}, 300*time.Millisecond)
	set(t, s, faultpkcs11.Faults{Hang: true})
	defer set(t, s, faultpkcs11.Faults{})
	eventually(t, "every session hangs", func() error {
		if err := signOnce(key); err == nil || !token.limiter.allHung() {
			return errors.New("a session is free")
		}
		return nil
	})
	if err := <-given; err == nil || !strings.Contains(err.Error(), "exit_when_stuck") {
		t.Errorf("the watch ended with: %v", err)
	}
	set(t, s, faultpkcs11.Faults{})
	eventually(t, "no call hangs", func() error {
		if d := token.hungFor(); d != 0 {
			return errors.New(d.String())
		}
		return signOnce(key)
	})
}

// H5: the sessions are lost, and the login that is to heal that never returns.
func TestWatchGivesUpOnALoginThatNeverReturns(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a library that hangs")
	}
	s, _, cfg := faulty(t)
	token := openSoft(t, cfg, true, noSelfTest)
	key := makeKey(t, token, P256, "a")
	set(t, s, faultpkcs11.Faults{Sessions: 1, Hang: true})
	defer set(t, s, faultpkcs11.Faults{Sessions: 1})
	l, _, _ := token.state()
	token.lose(l, errors.New("lost in a test"))
	if err := <-watched(t.Context(), Tokens{token}, 300*time.Millisecond); err == nil {
		t.Error("the watch ended well")
	}
	set(t, s, faultpkcs11.Faults{Sessions: 1})
	eventually(t, "healing", func() error { return errors.Join(signOnce(key), token.Health()) })
	if d := token.hungFor(); d != 0 {
		t.Errorf("healed, and yet stuck for %v", d)
	}
}

// A token that works is worth more than the return of its neighbour, and errors
// are no hang.
func TestWatchWaitsWhileAnyTokenAnswers(t *testing.T) {
	soft := newSoft(t)
	other := neighbour(t, soft, "site-a-new", "only-a-test-2")
	stuck, works := openSoft(t, configOf(soft), false), openSoft(t, other, false)
	key := makeKey(t, stuck, P256, "a")
	hurried(stuck, 50*time.Millisecond)
	release := hang(t, stuck, key)
	defer release()
	eventually(t, "every session of the first hangs", func() error {
		if err := signOnce(key); err == nil || !stuck.limiter.allHung() {
			return errors.New("a session is free")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	both, never := watched(ctx, Tokens{stuck, works}, 5*time.Millisecond), watched(ctx, Tokens{stuck}, 0)
	eventually(t, "twenty times the limit", func() error {
		if stuck.hungFor() < 100*time.Millisecond {
			return errors.New("not yet")
		}
		return nil
	})
	l, _, _ := works.state()
	works.lose(l, errors.New("away"))
	if d := works.hungFor(); d != 0 {
		t.Errorf("a token that is away is stuck for %v", d)
	}
	cancel()
	if err := errors.Join(<-both, <-never); err != nil {
		t.Errorf("gave up with one token well, or without a limit: %v", err)
	}
}
