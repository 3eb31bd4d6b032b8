package logical

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/upstream"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/health"
	"ocspfleet/sync/replica"

	"golang.org/x/mod/sumdb/note"
)

// Config says what to keep in step, and how closely to watch. A zero duration stands for its
// default.
type Config struct {
	// Site is this site's name on the master's roster. Its slots at the master have that name: two
	// sites of one name would fight for them.
	Site string
	// Local is the site's database, by a login in ocsp_sync.
	Local *sitedb.DB
	// Master is the master's database, by a login in ocsp_replica.
	Master *upstream.DB
	// Root verifies the key sets, read from the master, that name the keys for corrections. Nil:
	// none is pinned, and no permanent revocation is taken back here.
	Root note.Verifier
	// Interval between two readings of the local subscription. Default 1 s.
	Interval time.Duration
	// ProbeInterval between two queries to the master for slot, head, schema and clock. Default 10
	// s.
	ProbeInterval time.Duration
	// MasterTimeout bounds one query to the master, including the connection. Default 15 s.
	MasterTimeout time.Duration
	// StallAfter is how long the worker may be absent or receive nothing. Default 75 s: an idle
	// master sends every 30 s, a worker gives up after 60 s.
	StallAfter time.Duration
	// LagAfter is how old the copy may be before it counts as lagging. Default
	// 30 s, that is six heartbeats.
	LagAfter time.Duration
	// RecountInterval between two full recounts of the copy. Default 60 s, but
	// never so often that recounting takes more than a hundredth of the time.
	RecountInterval time.Duration
	// TombstoneAge is how long deletions are kept for readers that follow the copy. Default 1 h.
	TombstoneAge time.Duration
	// Log gets changes of state and the progress of seeds.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Now is the site's clock. Default time.Now.
	Now func() time.Time
}

// trimInterval is how often the site deletes what it no longer needs.
const trimInterval = time.Minute

// Subscription keeps one site in step. State and Check are safe for concurrent
// use; Run is called once.
type Subscription struct {
	cfg     Config
	check   chan struct{} // wakes Run
	counter replica.Counter
	access  replica.Access

	mu    sync.Mutex // guards state
	state State

	// The fields below belong to Run's goroutine.
	subscriber subscriber
	clock      replica.Clock
	probe      probe
	probeDue   time.Time
	refused    string       // why the last seed was refused
	broke      string       // why the last seed failed
	keys       *feed.KeySet // the newest under the root; nil: there is none
	workerSeen time.Time
	heard      time.Time // last message of the worker, or its start
	progress   progress
	diverged   string // the finding of two recounts in a row, or of damaged pages
	unread     string // why the last count of the copy failed
	trimDue    time.Time
}

// progress remembers the copy's last progress, to tell which failures matter.
type progress struct {
	position int64
	asOf     time.Time
	errors   int64 // the worker's count then
}

// CheckSite checks the name of a site that replicates: it is part of the names of its slots.
func CheckSite(name string) error {
	if err := db.CheckSite(name); err != nil {
		return err
	}
	if len(name) > db.MaxSiteLen {
		return fmt.Errorf("site %q: want at most %d octets, since its slots at the master have its name", name, db.MaxSiteLen)
	}
	return nil
}

// New checks the configuration.
func New(cfg Config) (*Subscription, error) {
	if err := CheckSite(cfg.Site); err != nil {
		return nil, err
	}
	cfg.Interval, cfg.ProbeInterval = cmp.Or(cfg.Interval, time.Second), cmp.Or(cfg.ProbeInterval, 10*time.Second)
	cfg.MasterTimeout, cfg.StallAfter = cmp.Or(cfg.MasterTimeout, 15*time.Second), cmp.Or(cfg.StallAfter, 75*time.Second)
	cfg.LagAfter, cfg.RecountInterval = cmp.Or(cfg.LagAfter, 30*time.Second), cmp.Or(cfg.RecountInterval, time.Minute)
	cfg.TombstoneAge = cmp.Or(cfg.TombstoneAge, replica.TombstoneAge)
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	now := cfg.Now()
	return &Subscription{
		cfg: cfg, check: make(chan struct{}, 1), state: State{Name: Starting, Since: now}, workerSeen: now, heard: now,
		counter: replica.Counter{
			Store: cfg.Local, Log: cfg.Log, Pace: replica.Pace{Regular: cfg.RecountInterval, Readings: 2, Gap: 5 * cfg.Interval, Counts: 2},
		},
		access: replica.Access{Store: cfg.Local, Log: cfg.Log},
		clock:  replica.Clock{Store: cfg.Local, Log: cfg.Log, Now: cfg.Now},
		subscriber: subscriber{
			name: db.SubscriptionName, site: cfg.Site, local: cfg.Local, master: cfg.Master,
			patience: cfg.MasterTimeout, retry: cfg.ProbeInterval, log: cfg.Log, now: cfg.Now,
		},
	}, nil
}

// State returns the state of the subscription.
func (s *Subscription) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Check asks for a full recount now.
func (s *Subscription) Check() {
	s.counter.Now()
	select {
	case s.check <- struct{}{}:
	default: // a recount is wanted already
	}
}

// Run seeds, watches and repairs until ctx ends; it returns nil then. It waits for databases that
// are away.
func (s *Subscription) Run(ctx context.Context) error {
	return health.Every{Pause: health.Always(s.cfg.Interval), Wake: s.check}.Run(ctx, s.step)
}

// step reads everything once, and acts once at most. diagnose says what is wrong.
func (s *Subscription) step(ctx context.Context) error {
	now := s.cfg.Now()
	seen := s.inspect(ctx, now)
	if seen.localErr == nil {
		s.maintain(ctx, seen.local, now)
		if wantsProbe := !seen.local.Exists || seen.workerGone > 0; !now.Before(s.probeDue) || wantsProbe && now.Sub(s.probe.at) > s.cfg.ProbeInterval/5 {
			s.talk(ctx, seen.local)
		}
		if seen.local.Exists && seen.local.HasHead {
			s.maybeRecount(ctx, seen.local, now)
		}
	}
	seen.unread, seen.probe, seen.diverged, seen.refused, seen.broke, seen.skew = s.unread, s.probe, s.diverged, s.refused, s.broke, s.State().Skew
	found := diagnose(seen, limits{site: s.cfg.Site, stall: s.cfg.StallAfter, lag: s.cfg.LagAfter, fresh: 3 * s.cfg.Interval})
	if ctx.Err() != nil {
		return nil // the stop itself caused what was read
	}
	s.enter(found, seen.local)
	switch {
	case found.enable:
		s.subscriber.enable(ctx)
	case found.seed != "" && !s.subscriber.backoff.ready(now):
	case found.seed != "":
		s.seed(ctx, found.seed, seen.local)
	case found.name == Streaming:
		s.subscriber.backoff.healthy(now)
	}
	return nil
}

// maintain does the small regular work on the site's database. A clock that is known to be wrong
// ends no certificate.
func (s *Subscription) maintain(ctx context.Context, local sitedb.Subscription, now time.Time) {
	if local.Exists {
		s.subscriber.connect(ctx)
	}
	if now.Before(s.trimDue) {
		return
	}
	s.trimDue = now.Add(trimInterval)
	asOf := local.AsOf
	if s.State().Skew.Abs() > db.MaxClockSkew {
		asOf = time.Time{}
	}
	s.subscriber.act(ctx, "forgetting what is old", func(ctx context.Context) error {
		return replica.Tidy(ctx, s.cfg.Local, s.cfg.TombstoneAge, now, asOf)
	})
}

// inspect reads the local subscription and computes what needs a history.
func (s *Subscription) inspect(ctx context.Context, now time.Time) sight {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	local, err := s.cfg.Local.Subscription(ctx, db.SubscriptionName)
	if err != nil {
		return sight{now: now, localErr: err}
	}
	seen := sight{now: now, local: local}
	if local.Worker {
		if now.Sub(s.workerSeen) > 3*s.cfg.Interval {
			s.heard = now // a new worker: give it time
		}
		s.workerSeen = now
		// LastMsg has the time of the database's own clock.
		if !local.LastMsg.IsZero() {
			s.heard = now.Add(-max(0, local.Clock.Sub(local.LastMsg)))
		}
	} else {
		seen.workerGone = now.Sub(s.workerSeen)
	}
	seen.silent = now.Sub(s.heard)
	if p := s.progress; local.Position != p.position || !local.AsOf.Equal(p.asOf) || local.Errors < p.errors {
		s.progress = progress{local.Position, local.AsOf, local.Errors}
	}
	seen.failures = local.Errors - s.progress.errors
	return seen
}

// quiet are the states that need no person.
var quiet = []Name{Starting, Seeding, Streaming}

// enter sets the new state, and logs a change.
func (s *Subscription) enter(found result, local sitedb.Subscription) {
	now := s.cfg.Now()
	s.mu.Lock()
	old := s.state.Name
	if old != found.name {
		s.state.Since = now
	}
	s.state.Name, s.state.Detail = found.name, found.detail
	if local.HasHead { // otherwise the last known head stays: the copy in memory goes on ageing
		s.state.Epoch, s.state.Position, s.state.AsOf = local.Epoch, local.Position, local.AsOf
	}
	state := s.state
	s.mu.Unlock()
	s.cfg.Metrics.shows(state, now)
	if old == found.name {
		return
	}
	level := slog.LevelWarn
	if slices.Contains(quiet, found.name) {
		level = slog.LevelInfo
	}
	s.cfg.Log.Log(context.Background(), level, "state changed", slog.String("from", string(old)), slog.String("to", string(found.name)),
		slog.String("detail", found.detail), slog.Int64("position", state.Position))
}
