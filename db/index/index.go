// Package index is the copy of certificate status in the memory of one process.
// It owns a table of every certificate, the issuers, the responder certificates
// and the horizon of all three, and follows the site's local database.
//
// What it trusts: the database, as far as one can see from here. Whoever can
// write rows and a matching head makes this site lie, but, with Config.Trust, not
// beyond the age of the last checkpoint that the master signed, and never about a
// permanent revocation that it knows. What does not match is found: each snapshot carries in its head the count and the digest that its
// rows must have, and only a snapshot that has them is adopted.
//
// What it promises:
//
//   - A look-up takes no lock, does no I/O and about a microsecond, and goes on
//     while the database is away; the horizon ages honestly then.
//   - Rows are published first and the horizon last, and a look-up loads the
//     horizon first: an answer never claims more than its row knows.
//   - A permanent revocation that was adopted stays until the certificate expires:
//     a snapshot that takes it back is refused, whatever its head says, unless
//     db.Adoption lets it by a correction that this process has verified. It outlives
//     the process, which stores nothing: the site's database remembers
//     (sitedb.Remembered), and what a first load lacks of that puts it in doubt and is
//     answered as it is remembered.
//   - A refused snapshot puts the horizon in doubt: permanent revocations are
//     served, good and unknown are not. The first snapshot that can be adopted ends
//     the doubt, so a re-seed heals it.
//
// A position or an epoch below the adopted one is refused too, though digest and
// rows agree: a master restored from a backup forgets what it told us. It ends
// when the position catches up, with a new epoch, or with a restart of the process.
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

// ErrNotReady says that no snapshot of the database was adopted yet.
var ErrNotReady = errors.New("no copy of the certificate status was loaded yet")

// Config says how the copy follows the database.
type Config struct {
	// Poll is how often the database is asked when no notification comes: the
	// longest time that a lost one costs. Default 1 s.
	Poll time.Duration
	// Logger hears of loads, refused snapshots and the database's absence. Default: nobody.
	Logger *slog.Logger
	// Metrics counts; nil: nothing is told.
	Metrics *Metrics
	// Trust verifies a key set as it stands in the database (nil: none does) under the
	// root that this process pins. Nil: none is pinned. The head's word counts for its
	// age then, and no correction is believed.
	Trust func(keys [][]byte) (Trust, error)
	// Doubt says what else speaks against the copy, at each look; empty: nothing. May be nil.
	Doubt func() string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Trust is what may be believed by one key set.
type Trust struct {
	// Checkpoint verifies one of the feed and returns the head that it vouches for: the
	// horizon's as_of is never later. Nil: the set names no key that signs checkpoints,
	// so that the head's word counts.
	Checkpoint func(signed []byte) (db.Head, error)
	// Corrections verifies the notes of corrections.
	Corrections db.OpenCorrections
}

// Index is the copy. Its methods are safe for concurrent use; Run is called once.
type Index struct {
	store *sitedb.DB
	cfg   Config
	log   *slog.Logger

	// What readers load. The table is changed in place, shard by shard, and
	// swapped whole by a load; nil until the first adoption.
	table   atomic.Pointer[table]
	lists   atomic.Pointer[lists]
	horizon atomic.Pointer[db.Horizon] // never nil
	// recalled are permanent revocations that the rows have lost, by their packed keys;
	// nil: none. The horizon is in doubt while there are any.
	recalled atomic.Pointer[map[string]db.Status]

	follower // owned by the goroutine of Run

	mu    sync.Mutex
	state State
}

// lists are the small tables, swapped whole.
type lists struct {
	issuers         []db.Issuer
	responders      []db.ResponderCertificate
	corrections     []db.Correction
	issuerTally     db.Tally
	responderTally  db.Tally
	correctionTally db.Tally
	closedTally     db.Tally
}

// State is how the copy stands, for people and for /readyz.
type State struct {
	Loaded       bool
	Certificates int
	Horizon      db.Horizon
	// Refused says why the database's latest snapshot was not adopted; empty when it was.
	Refused string
	// DownSince is since when the database could not be asked, zero when it
	// answers. The copy serves on.
	DownSince time.Time
	DownError string
	// Unbelieved names corrections that no believed key signed, of revocations that this
	// copy holds: they take nothing back. Empty: there are none.
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

// Horizon says how far the copy goes. Before the first adoption it is zero, and in doubt.
func (x *Index) Horizon() db.Horizon { return *x.horizon.Load() }

// Len is the number of certificates.
func (x *Index) Len() int {
	if t := x.table.Load(); t != nil {
		return int(t.count.Load())
	}
	return 0
}

// Lookup returns the status of a certificate and the horizon that it is known
// at; db.ErrNotIssued, with the horizon, when the issuer never issued the
// serial, and ErrNotReady when nothing was loaded yet.
func (x *Index) Lookup(_ context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, db.Horizon, error) {
	h := x.horizon.Load() // before the row: the row may know more than h, never less
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
	if lost := x.recalled.Load(); lost != nil { // after the row: what it lost is there before it
		if status, is := (*lost)[string(key)]; is {
			return status, *h, nil
		}
	}
	if !found {
		return db.Status{}, *h, db.ErrNotIssued
	}
	return r.status(), *h, nil
}

// State tells how the copy stands.
func (x *Index) State() State {
	x.mu.Lock()
	s := x.state
	x.mu.Unlock()
	s.Loaded, s.Certificates, s.Horizon = x.table.Load() != nil, x.Len(), x.Horizon()
	return s
}

// lasting is how long the database may be away before that is said: a restart of
// PostgreSQL, a seed that holds the tables, are shorter.
const lasting = 5 * time.Minute

// Away says since when and why the database could not be read, once that has lasted for
// 5 minutes, or at once while nothing was loaded; empty: it can be. Look-ups go on, from
// what is known.
func (x *Index) Away() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if since := x.state.DownSince; !since.IsZero() && (x.table.Load() == nil || x.cfg.Now().Sub(since) > lasting) {
		return fmt.Sprintf("the database cannot be read since %s: %s", since.UTC().Format(time.RFC3339), x.state.DownError)
	}
	return ""
}

// Ready says why this copy must not be asked now. A database that went away is
// no reason: the copy serves on, and its age has limits of its own.
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
