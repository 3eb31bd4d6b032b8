package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"ocspfleet/hsm/tokenconf"
)

var errHung = errors.New("every session is inside a call of the library that does not return; if it stays so, restart this process")

// Config configures a Token: its settings, its logger and its metrics.
type Config struct {
	tokenconf.Config
	// Logger gets the losses and recoveries of the token. Nil: none.
	Logger *slog.Logger
	// Metrics counts what the token does. Nil: none.
	Metrics *Metrics
	// Now is the clock of reports. Nil: time.Now.
	Now func() time.Time
}

// Token is one PKCS#11 token, logged in, with the supervisor of its connection. Safe for
// concurrent use.
type Token struct {
	conf    tokenconf.Settings
	logger  *slog.Logger
	metrics *Metrics
	now     func() time.Time
	module  *module
	limiter *limiter
	info    TokenInfo
	slot    uint // never changes while a connection is up; guarded by mu

	done   chan struct{} // closed by Close
	broken chan struct{} // capacity 1: wakes Run
	times  timings
	dial   func(module string, s tokenconf.Settings, at place, pin string) (*connection, error) // dial; tests count calls and inject errors

	mu      sync.Mutex            // guards what follows
	current *connection           // nil while the breaker is open
	lost    *connection           // to be closed before the next dial
	reason  error                 // why current is nil
	since   time.Time             // when current became nil
	trying  time.Time             // start of the running attempt to heal; zero: none runs
	healed  chan struct{}         // closed when current is set again; nil while it is set
	wanted  map[keyName]wantedKey // every key that Signer handed out
	taken   string                // mark of the PIN file whose PIN the token last accepted
	refused string                // mark of the PIN file whose PIN it refused; not offered again
	refusal error                 // the token's error for it
	closed  bool
}

// wantedKey is a key for which a signer was handed out.
type wantedKey struct {
	public crypto.PublicKey
	gone   bool // the token is present and does not hold it
}

// timings are the periods of the supervisor; tests shorten them.
type timings struct {
	firstDelay time.Duration // before the second attempt to heal
	maxDelay   time.Duration // between attempts to heal; bounds how late a returned token is seen
	calm       time.Duration // a connection that lived this long is replaced at once when lost
	selfTest   time.Duration // between two self-tests of every key; finds a dead idle connection
	reload     time.Duration // between two reloads of a library that other tokens also use
	generate   time.Duration // deadline of making a key: RSA-3072 takes an HSM up to a minute
}

var defaultTimings = timings{
	firstDelay: 200 * time.Millisecond,
	maxDelay:   5 * time.Second,
	calm:       30 * time.Second,
	selfTest:   20 * time.Second,
	reload:     30 * time.Second,
	generate:   2 * time.Minute,
}

// openTimeout bounds the first login: some HSMs need half a minute to wake up.
const openTimeout = time.Minute

// Open loads the library, finds the token and logs in. A missing token or a wrong PIN is an
// error that names the fix. The caller must close the Token, and must start Run if the process
// is to survive the loss of the token.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	s, err := cfg.Settle()
	if err != nil {
		return nil, fmt.Errorf("opening the token: %w", err)
	}
	path, err := s.Library()
	if err != nil {
		return nil, err
	}
	pin, err := s.ReadPIN()
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if mode, open := s.PINFileOpen(); open {
		cfg.Logger.WarnContext(ctx, "PIN file is readable by others: chmod 600", slog.String("file", s.PINFile), slog.String("mode", mode.String()))
	}
	t := &Token{
		conf:    s,
		logger:  cfg.Logger,
		metrics: cfg.Metrics,
		now:     cfg.Now,
		done:    make(chan struct{}),
		broken:  make(chan struct{}, 1),
		times:   defaultTimings,
		dial:    dial,
		wanted:  make(map[keyName]wantedKey),
	}
	if t.module, err = own(path, t); err != nil {
		return nil, err
	}
	if err := t.openWithin(ctx, pin); err != nil {
		return nil, t.conf.Explain(err, false)
	}
	return t, nil
}

// openWithin makes the first connection, unless ctx ends or the library hangs before: a daemon
// must be able to report that and to end. A hanging call keeps the library until it returns;
// the connection is closed then.
func (t *Token) openWithin(ctx context.Context, pin tokenconf.PIN) error {
	outcome, givenUp := make(chan error), make(chan struct{})
	go func() {
		err := t.open(pin)
		if err != nil {
			t.module.release(t)
		}
		select {
		case outcome <- err:
		case <-givenUp:
			if err == nil {
				_ = t.Close() // the error has no receiver
			}
		}
	}()
	timer := time.NewTimer(openTimeout)
	defer timer.Stop()
	var err error
	select {
	case err = <-outcome:
		return err
	case <-ctx.Done():
		err = fmt.Errorf("opening token %s: waiting for the PKCS#11 library: %w", t.conf.Name(), ctx.Err())
	case <-timer.C:
		err = fmt.Errorf("opening token %s: the PKCS#11 library did not answer within %s: is the HSM reachable?", t.conf.Name(), openTimeout)
	}
	close(givenUp)
	return err
}

// open makes the first connection.
func (t *Token) open(pin tokenconf.PIN) error {
	t.module.building.Lock()
	defer t.module.building.Unlock()
	others := t.module.others(t)
	if err := t.conf.Environment(len(others) > 0); err != nil {
		return err
	}
	at, mechanisms, err := t.module.locate(t.conf.Parsed, "")
	info := at.info
	for _, other := range others {
		if err == nil && other.Info().Serial == info.SerialNumber && other.Info().Label == info.Label {
			err = errors.New("it is open in this process already, close that one first")
		}
	}
	if err != nil {
		return fmt.Errorf("opening token %s: %w", t.conf.Name(), err)
	}
	if err := t.conf.DiskSpace(); err != nil {
		return fmt.Errorf("opening token %s: %w", t.conf.Name(), err)
	}
	c, err := t.login(at, pin)
	if err != nil {
		return err
	}
	sessions := t.conf.MaxSessions
	// PKCS#11 has two constants for "no limit reported"; both are ignored.
	mostOpen := 0
	if most := info.MaxRwSessionCount; most != pkcs11.CK_EFFECTIVELY_INFINITE && most != pkcs11.CK_UNAVAILABLE_INFORMATION {
		sessions, mostOpen = int(min(uint(sessions), most)), int(most)
	}
	t.slot, t.current = at.slot, c
	t.info = TokenInfo{
		Label: info.Label, Serial: info.SerialNumber, Manufacturer: info.ManufacturerID, Model: info.Model,
		Module: t.module.path, Sessions: sessions - 1, // one session holds the login
		MostOpen: mostOpen, Mechanisms: mechanisms,
	}
	if info.SessionCount != pkcs11.CK_UNAVAILABLE_INFORMATION {
		t.info.Open = int(info.SessionCount)
	}
	t.limiter = newLimiter(sessions-1, t.conf.MaxQueue, t.conf.SignTimeout, t.metrics.queue)
	t.up(true)
	return nil
}

// Close ends the sessions. A second call does nothing. It waits at most SignTimeout for calls
// inside the library; if one hangs longer, Close returns an error and the library stays
// unusable in this process.
func (t *Token) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.done)
	t.mu.Unlock()

	finished := make(chan struct{})
	go func() {
		defer close(finished)
		t.module.building.Lock() // an attempt to heal ends first
		defer t.module.building.Unlock()
		t.mu.Lock()
		connections := []*connection{t.current, t.lost}
		t.current, t.lost = nil, nil
		t.mu.Unlock()
		for _, c := range connections {
			if c != nil {
				c.close()
			}
		}
		t.module.release(t)
	}()
	timer := time.NewTimer(t.conf.SignTimeout)
	defer timer.Stop()
	select {
	case <-finished:
		return nil
	case <-timer.C:
		return errors.New("closing the token: a call inside the PKCS#11 library does not return")
	}
}

// Info returns the token's description of itself when it was opened.
func (t *Token) Info() TokenInfo { return t.info }

// Health returns nil, or the reason why signatures cannot be made.
func (t *Token) Health() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return ErrClosed
	case t.current == nil && errors.Is(t.reason, errReload) && t.now().Sub(t.since) < t.conf.SignTimeout:
		// The connection is closed for another token's reload: signatures wait and are served.
	case t.current == nil:
		return fmt.Errorf("since %s: %w", t.since.UTC().Format(time.RFC3339), unavailable(t.reason))
	case t.limiter.allHung():
		return unavailable(errHung)
	}
	for _, key := range t.wanted {
		if !key.gone {
			return nil
		}
	}
	if len(t.wanted) > 0 {
		// One missing key among others is reported by its identity, and may be retired.
		return fmt.Errorf("token %s no longer holds any key that it signed with: %w", t.conf.Name(), ErrNoKey)
	}
	return nil
}

// Signer returns the key of pub if the token holds it and signs correctly with it, ErrNoKey if
// it does not hold it. The signer stays valid when the connection is opened again. It signs
// hashes by ECDSA or RSA PKCS#1 v1.5; it ignores the random source and uses Config.SignTimeout
// as deadline.
func (t *Token) Signer(pub crypto.PublicKey) (crypto.Signer, error) {
	name, _, err := nameOf(pub)
	if err != nil {
		return nil, fmt.Errorf("finding a key in token %s: %w", t.conf.Name(), err)
	}
	if err := t.findKey(name, pub); err != nil {
		return nil, fmt.Errorf("finding key %s in token %s: %w", name, t.conf.Name(), t.conf.Explain(err, true))
	}
	t.mu.Lock()
	t.wanted[name] = wantedKey{public: pub}
	t.mu.Unlock()
	return &signer{token: t, public: pub, name: name}, nil
}

// findKey finds a key through the current connection, and tests it with one signature.
func (t *Token) findKey(name keyName, pub crypto.PublicKey) error {
	_, err := within(t, t.conf.SignTimeout, func(c *connection) (crypto.Signer, error) { return t.findIn(c, name, pub) })
	return err
}

// findIn finds a key and keeps it in the connection. A key that this connection had may still
// be in the token when it is no longer found: SoftHSM reports every key as missing, for ever,
// after its directory was away. Only a new connection can tell.
func (t *Token) findIn(c *connection, name keyName, pub crypto.PublicKey) (crypto.Signer, error) {
	key, err := c.find(pub)
	if err == nil {
		c.set(name, key)
		t.setGone(name, false)
		return key, nil
	}
	t.mu.Lock()
	had, wanted := t.wanted[name]
	t.mu.Unlock()
	if errors.Is(err, ErrNoKey) && wanted && !had.gone {
		return nil, errVanished
	}
	return nil, err
}

// setGone records whether the token holds a key that was handed out, and logs a change.
func (t *Token) setGone(name keyName, gone bool) {
	t.mu.Lock()
	key, ok := t.wanted[name]
	news := ok && key.gone != gone
	if news {
		key.gone = gone
		t.wanted[name] = key
	}
	t.mu.Unlock()
	if news && gone {
		t.logger.Error("key is gone from the token", slog.String("token", t.conf.Parsed.Token), slog.String("key", name.String()))
	} else if news {
		t.logger.Info("key is in the token again", slog.String("token", t.conf.Parsed.Token), slog.String("key", name.String()))
	}
}

func (t *Token) isGone(name keyName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wanted[name].gone
}

// state returns the current connection, or nil with the reason and a channel that is closed
// when there is one again.
func (t *Token) state() (c *connection, healed <-chan struct{}, reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, ErrClosed
	}
	if t.current == nil {
		return nil, t.healed, unavailable(t.reason)
	}
	return t.current, nil, nil
}

// show sets the metrics to whether signatures can be made. A call that hung may return while
// the breaker is open, and the other way round.
func (t *Token) show() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.up(t.current != nil && !t.limiter.allHung())
}

// up sets the metrics to whether signatures can be made.
func (t *Token) up(can bool) {
	value := 0.0
	if can {
		value = 1
	}
	t.metrics.up.WithLabelValues(t.conf.Label()).Set(value)
}

// lose opens the breaker, if c is still the current connection, and wakes Run.
func (t *Token) lose(c *connection, reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != c || t.closed {
		return // another call saw it first
	}
	t.current, t.lost = nil, c
	t.reason, t.since = reason, t.now()
	t.healed = make(chan struct{})
	t.up(false)
	select {
	case t.broken <- struct{}{}:
	default:
	}
}
