package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// ErrNotReady says that no snapshot was adopted yet.
var ErrNotReady = errors.New("no copy of the certificate status was loaded yet")

// Config says how the copy follows the database.
type Config struct {
	// Poll is how often the database is read when no notification comes: the longest delay by a
	// lost one. Default 1 s.
	Poll time.Duration
	// Logger receives loads, refused snapshots and the database's absence. Default: none.
	Logger *slog.Logger
	// Metrics counts; nil: none.
	Metrics *Metrics
	// Trust verifies a key set from the database (nil: there is none) under the root that this
	// process pins. Nil: no root is pinned. Then the head's own time counts as its age, and no
	// correction is accepted.
	Trust func(keys [][]byte) (Trust, error)
	// Doubt returns another reason not to trust the copy, at each check; empty: none. May be
	// nil.
	Doubt func() string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Trust verifies by one key set.
type Trust struct {
	// Checkpoint verifies a checkpoint of the feed and returns its head: the horizon's as_of is
	// never later. Nil: the set has no key that signs checkpoints, so the head's own time
	// counts.
	Checkpoint func(signed []byte) (db.Head, error)
	// Corrections verifies the notes of corrections.
	Corrections db.OpenCorrections
}

// Index is the copy. Its methods are safe for concurrent use; Run is called once.
type Index struct {
	store *sitedb.DB
	cfg   Config
	log   *slog.Logger

	// What readers load. The table is changed in place, shard by shard, and replaced whole by a
	// load; nil until the first adoption.
	table   atomic.Pointer[table]
	lists   atomic.Pointer[lists]
	horizon atomic.Pointer[db.Horizon] // never nil
	// recalled are permanent revocations that the rows have lost, by their packed keys; nil:
	// none. The horizon is in doubt while there are any.
	recalled atomic.Pointer[map[string]db.Status]

	follower // owned by the goroutine of Run

	mu    sync.Mutex
	state State
}

// lists are the small tables, replaced whole.
type lists struct {
	issuers         []db.Issuer
	responders      []db.ResponderCertificate
	corrections     []db.Correction
	issuerTally     db.Tally
	responderTally  db.Tally
	correctionTally db.Tally
	closedTally     db.Tally
}

// State is the state of the copy, for people and for /readyz.
type State struct {
	Loaded       bool
	Certificates int
	Horizon      db.Horizon
	// Refused says why the database's latest snapshot was not adopted; empty when it was.
	Refused string
	// DownSince is since when the database could not be read, zero when it answers. The copy
	// still serves.
	DownSince time.Time
	DownError string
	// Unbelieved names corrections without a valid signature, of revocations that this copy
	// has: they remove nothing. Empty: none.
	Unbelieved string
}

// Open prepares a copy; Run loads and follows. The database may be away.
func Open(_ context.Context, store *sitedb.DB, cfg Config) (*Index, error) {
	if store == nil || cfg.Poll < 0 {
		return nil, fmt.Errorf("opening the index: want a store and a poll interval above 0, not %s", cfg.Poll)
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
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
	x := &Index{store: store, cfg: cfg, log: cfg.Logger}
	x.lists.Store(&lists{})
	x.horizon.Store(&db.Horizon{Doubt: ErrNotReady.Error()})
	return x, nil
}

// Issuers returns the issuers by number. The slice is shared: do not modify it.
func (x *Index) Issuers() []db.Issuer { return x.lists.Load().issuers }

// ResponderCertificates returns the delegated certificates of all sites. The
// slice is shared: do not modify it.
func (x *Index) ResponderCertificates() []db.ResponderCertificate {
	return x.lists.Load().responders
}

// Horizon is up to when the copy is complete. Before the first adoption it is zero, and in doubt.
func (x *Index) Horizon() db.Horizon { return *x.horizon.Load() }

// Len returns the number of certificates.
func (x *Index) Len() int {
	if t := x.table.Load(); t != nil {
		return int(t.count.Load())
	}
	return 0
}

// Lookup returns the status of a certificate and its horizon; db.ErrNotIssued, with the
// horizon, when the issuer never issued the serial, and ErrNotReady when nothing was loaded
// yet.
func (x *Index) Lookup(_ context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, db.Horizon, error) {
	h := x.horizon.Load() // before the row: the row may be newer than h, never older
	t := x.table.Load()
	if t == nil {
		return db.Status{}, db.Horizon{}, ErrNotReady
	}
	if len(serial) == 0 || len(serial) > db.MaxSerialLen {
		return db.Status{}, *h, db.ErrNotIssued
	}
	var buf [maxKeyLen]byte
	key := appendKey(buf[:0], issuer, serial)
	r, found := t.find(key)
	if lost := x.recalled.Load(); lost != nil { // after the row: a lost revocation is in recalled before the row changes
		if status, is := (*lost)[string(key)]; is {
			return status, *h, nil
		}
	}
	if !found {
		return db.Status{}, *h, db.ErrNotIssued
	}
	return r.status(), *h, nil
}

// State returns the state of the copy.
func (x *Index) State() State {
	x.mu.Lock()
	s := x.state
	x.mu.Unlock()
	s.Loaded, s.Certificates, s.Horizon = x.table.Load() != nil, x.Len(), x.Horizon()
	return s
}

// lasting is how long the database may be away before that is reported: a restart of
// PostgreSQL, or a seed that locks the tables, takes less.
const lasting = 5 * time.Minute

// Away says since when and why the database could not be read, once that has lasted for 5
// minutes, or at once while nothing was loaded; empty: it can be read. Look-ups still work,
// from the last known state.
func (x *Index) Away() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if since := x.state.DownSince; !since.IsZero() && (x.table.Load() == nil || x.cfg.Now().Sub(since) > lasting) {
		return fmt.Sprintf("the database cannot be read since %s: %s", since.UTC().Format(time.RFC3339), x.state.DownError)
	}
	return ""
}

// Ready says why this copy must not be used now. A missing database is not a reason: the copy
// still serves, and its age has limits of its own.
func (x *Index) Ready() error {
	s := x.State()
	switch {
	case s.Refused != "" && !s.Loaded:
		return fmt.Errorf("%w: %s", ErrNotReady, s.Refused)
	case s.DownError != "" && !s.Loaded:
		return fmt.Errorf("%w: %s", ErrNotReady, s.DownError)
	case !s.Loaded:
		return ErrNotReady
	case s.Horizon.Doubt != "":
		return errors.New(s.Horizon.Doubt)
	case s.Unbelieved != "":
		return errors.New(s.Unbelieved)
	}
	return nil
}
