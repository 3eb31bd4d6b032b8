package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ocspfleet/hsm/tokenconf"
)

// Run keeps the connection alive until ctx ends or the Token is closed: it opens a lost one
// again with back-off, tests every key three times a minute, and looks for missing keys. It
// returns nil; a lost token does not end it, since answers already signed can still be served.
func (t *Token) Run(ctx context.Context) error {
	ticker := time.NewTicker(t.times.selfTest)
	defer ticker.Stop()
	var delay time.Duration
	var lastHealed time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.done:
			return nil
		case <-t.broken:
			if time.Since(lastHealed) > t.times.calm {
				delay = 0 // the first loss in a while: retry at once
			}
			delay = t.heal(ctx, delay)
			lastHealed = time.Now()
		case <-ticker.C:
			t.testKeys(ctx)
		}
	}
}

// heal tries until there is a connection again, ctx ends or the Token is closed. It returns the
// first delay to use if the new connection is lost at once, so that an unstable token is not
// retried too fast.
func (t *Token) heal(ctx context.Context, delay time.Duration) time.Duration {
	_, _, reason := t.state()
	if reason == nil || errors.Is(reason, ErrClosed) {
		return delay
	}
	lostAt, said := time.Now(), ""
	loud := slog.LevelWarn
	if errors.Is(reason, ErrNoKey) {
		loud = slog.LevelDebug // repeated while every key is missing; that was logged once
	}
	t.logger.Log(ctx, loud, "token lost", slog.String("token", t.conf.Parsed.Token), slog.Any("reason", reason))
	for tries := 1; ; tries++ {
		if !t.pause(ctx, delay) {
			return delay
		}
		delay = min(max(2*delay, t.times.firstDelay), t.times.maxDelay)
		result := make(chan error, 1) // in its own goroutine: a hanging library must not delay our end
		go func() { result <- t.attempted(t.rebuild) }()
		select {
		case <-ctx.Done():
			return delay
		case <-t.done:
			return delay
		case err := <-result:
			if err == nil {
				t.metrics.rebuilds.Inc()
				t.logger.Log(ctx, min(loud, slog.LevelInfo), "token recovered", slog.String("token", t.conf.Parsed.Token),
					slog.Int("tries", tries), slog.Duration("after", time.Since(lostAt)))
				return delay
			}
			if text := err.Error(); text != said { // once per reason, not per attempt
				said = text
				t.logger.WarnContext(ctx, "token not recovered yet", slog.String("token", t.conf.Parsed.Token), slog.Any("reason", err))
			}
		}
	}
}

// attempted makes an attempt to heal and records when it began.
func (t *Token) attempted(heal func() error) error {
	note := func(began time.Time) {
		t.mu.Lock()
		t.trying = began
		t.mu.Unlock()
	}
	note(time.Now())
	defer note(time.Time{})
	return heal()
}

// pause waits, and returns false when Run is to end.
func (t *Token) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.done:
		return false
	case <-timer.C:
		return true
	}
}

// rebuild closes the lost connection, opens a new one, finds and tests every key that was
// handed out, and puts the new connection into use.
//
// Closing comes first: C_Finalize runs only when the last user of a library is gone, and only
// that recovers a token whose directory was away (SoftHSM) or whose session handles start from
// one again (an HSM after its restart: closing old handles late would close new sessions). It
// also makes the login a real one; while an old login exists any PIN is accepted.
func (t *Token) rebuild() (err error) {
	t.module.building.Lock()
	defer t.module.building.Unlock()
	defer func() {
		if err != nil {
			t.mu.Lock()
			t.reason = err
			t.mu.Unlock()
		}
	}()
	t.mu.Lock()
	lost, closed := t.lost, t.closed
	t.lost = nil
	t.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if lost != nil {
		t.retire(lost)
	}
	c, slot, gone, err := t.connect()
	// With other tokens open the library was not finalised: its information may be out of date.
	// On a full disk the others must not log in again, either.
	if stale := err != nil && !errors.Is(err, tokenconf.ErrPIN) && !errors.Is(err, tokenconf.ErrFull) || err == nil && len(gone) > 0 && len(gone) == len(t.publicKeys()); stale && t.module.reload(t, t.times.reload) {
		if c != nil {
			c.close()
		}
		c, slot, gone, err = t.connect()
	}
	if err != nil {
		return t.conf.Explain(err, false)
	}
	return t.use(c, slot, gone)
}

// connect opens a connection and finds and tests every key that was handed out.
func (t *Token) connect() (c *connection, slot uint, gone map[keyName]bool, err error) {
	pin, err := t.conf.ReadPIN()
	if err != nil {
		return nil, 0, nil, err
	}
	if err := t.conf.DiskSpace(); err != nil {
		return nil, 0, nil, err
	}
	at, _, err := t.module.locate(t.conf.Parsed, t.info.Serial)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("opening token %s: %w", t.conf.Name(), err)
	}
	if c, err = t.login(at, pin); err != nil {
		return nil, 0, nil, err
	}
	if gone, err = t.findAll(c); err != nil {
		c.close()
		return nil, 0, nil, err
	}
	return c, at.slot, gone, nil
}

// retire closes a lost connection. It waits for a call that hangs inside for no longer than a
// signature may take; then the new connection exists beside the old one. There are fewer
// goroutines left behind than sessions, since each waits for a call that keeps its slot at the
// limiter.
func (t *Token) retire(c *connection) {
	finished := make(chan struct{})
	go func() {
		c.close()
		close(finished)
	}()
	timer := time.NewTimer(t.conf.SignTimeout)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
	}
}

// findAll finds every wanted key through a new connection, and returns those that are not in
// the token. Any other error with a key counts as an error of the connection.
func (t *Token) findAll(c *connection) (gone map[keyName]bool, err error) {
	gone = make(map[keyName]bool)
	for name, pub := range t.publicKeys() {
		key, err := c.find(pub)
		if err != nil && classify(err) == classRetry {
			key, err = c.find(pub)
		}
		switch {
		case err == nil:
			c.set(name, key)
		case errors.Is(err, ErrNoKey), errors.Is(err, errEachTime):
			gone[name] = true
		default:
			return nil, fmt.Errorf("testing key %s: %w", name, err)
		}
	}
	return gone, nil
}

func (t *Token) publicKeys() map[keyName]crypto.PublicKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := make(map[keyName]crypto.PublicKey, len(t.wanted))
	for name, key := range t.wanted {
		keys[name] = key.public
	}
	return keys
}

// use closes the breaker with a new connection.
func (t *Token) use(c *connection, slot uint, gone map[keyName]bool) error {
	for name := range t.publicKeys() {
		t.setGone(name, gone[name])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		t.lost = c // Close waits for building and closes it
		return ErrClosed
	}
	t.current, t.slot, t.reason = c, slot, nil
	close(t.healed)
	t.healed = nil
	t.up(!t.limiter.allHung())
	return nil
}

// testKeys signs once with every key, so that a connection that died while idle is found before
// a client uses it. It also looks for keys that were missing. While no key at all can be found,
// it opens a new connection each time, since only a new one can show them (see findIn); if one
// key works, the others are really missing.
func (t *Token) testKeys(ctx context.Context) {
	c, _, _ := t.state()
	if c == nil {
		return // heal is running
	}
	works := 0
	keys := t.publicKeys()
	for name, pub := range keys {
		timer := time.NewTimer(t.conf.SignTimeout)
		_, lost, err := settled(t, timer.C, func(c *connection) (crypto.Signer, error) { return t.findIn(c, name, pub) })
		timer.Stop()
		switch {
		case err == nil:
			works++
		case errors.Is(err, ErrNoKey): // known to be missing
		case lost, errors.Is(err, ErrClosed), ctx.Err() != nil:
			return
		default:
			t.logger.WarnContext(ctx, "self-test not passed", slog.String("token", t.conf.Parsed.Token), slog.String("key", name.String()), slog.Any("reason", err))
			return
		}
	}
	if works == 0 && len(keys) > 0 {
		t.lose(c, ErrNoKey)
	}
}
