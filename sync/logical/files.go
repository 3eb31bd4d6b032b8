package logical

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/upstream"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"

	"golang.org/x/mod/sumdb/note"
)

// FilesConfig says how to keep the signed files of a native site in step. A zero duration stands
// for its default.
type FilesConfig struct {
	// Site, Local and Master are as in Config.
	Site   string
	Local  *sitedb.DB
	Master *upstream.DB
	// Root verifies the key sets, and so all files.
	Root note.Verifier
	// Latest gets each checkpoint that was verified, for the relay. May be nil.
	Latest *feedhttp.Latest
	// Behind is called when the master shows less than it signed, Forked when another
	// contradiction was kept. May be nil.
	Behind func(ours, theirs []byte)
	Forked func()
	// Interval between two readings of the files here. Default 1 s.
	Interval time.Duration
	// ProbeInterval between two queries to the master. Default 10 s.
	ProbeInterval time.Duration
	// MasterTimeout bounds one query to the master. Default 15 s.
	MasterTimeout time.Duration
	// StallAfter is how long the files may lack what the master has signed. Default 30 s; after
	// four times that they are copied again.
	StallAfter time.Duration
	// Log gets faults, and copies that were made.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *FilesMetrics
	// Now is the site's clock. Default time.Now.
	Now func() time.Time
}

// Files keeps the signed files of a site by native replication in step with the master: they come
// by a subscription of their own, which delays no row. Files verifies them for the peers that
// fetch them from this site; ocspd verifies for itself. Run is called once, the rest is safe for
// concurrent use.
type Files struct {
	cfg FilesConfig

	mu      sync.Mutex // guards the fields below
	trouble string
	keys    *feed.KeySet // the newest under the root; nil: there is none
	spoiled string       // a segment that a peer asked for is wrong

	// The fields below belong to Run's goroutine.
	notes      [][]byte  // the key sets that were read last
	stood      verified  // the newest verified checkpoint
	seen       []byte    // the checkpoint that was read last
	wrong      string    // the fault of the files here; empty: none
	forked     string    // how the master contradicts what it signed; empty: it does not
	wanted     time.Time // as_of of what the master has signed and this site lacks; zero: nothing
	since      time.Time // when this was found
	subscriber subscriber
	probe      filesProbe
	probeDue   time.Time
	failed     string // why the last copy failed; empty: it did not
}

// verified is a checkpoint with its note; a nil Checkpoint means none.
type verified struct {
	*feed.Checkpoint
	note []byte
}

// filesProbe is the result of the last query to the master.
type filesProbe struct {
	at    time.Time
	err   error
	slots []db.Slot
}

// NewFiles sets the defaults.
func NewFiles(cfg FilesConfig) *Files {
	cfg.Interval, cfg.ProbeInterval = cmp.Or(cfg.Interval, time.Second), cmp.Or(cfg.ProbeInterval, 10*time.Second)
	cfg.MasterTimeout, cfg.StallAfter = cmp.Or(cfg.MasterTimeout, 15*time.Second), cmp.Or(cfg.StallAfter, 30*time.Second)
	if cfg.Metrics == nil {
		cfg.Metrics = NewFilesMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Latest == nil {
		cfg.Latest = &feedhttp.Latest{}
	}
	if cfg.Behind == nil {
		cfg.Behind = func(_, _ []byte) {}
	}
	if cfg.Forked == nil {
		cfg.Forked = func() {}
	}
	return &Files{cfg: cfg, subscriber: subscriber{
		name: db.FilesSubscriptionName, files: true, site: cfg.Site, local: cfg.Local, master: cfg.Master,
		patience: cfg.MasterTimeout, retry: cfg.ProbeInterval, log: cfg.Log, now: cfg.Now,
	}}
}

// Trouble says why the signed files stand still, or fail verification; empty: all is well.
func (f *Files) Trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble
}

// Run watches and repairs until ctx ends; it returns nil then.
func (f *Files) Run(ctx context.Context) error {
	return health.Every{Pause: health.Always(f.cfg.Interval)}.Run(ctx, f.step)
}

// step reads the state once, and acts once at most. diagnose says what is wrong.
func (f *Files) step(ctx context.Context) error {
	local, err := f.inspect(ctx)
	if ctx.Err() != nil {
		return nil // the stop itself caused what was read
	}
	if err != nil {
		f.enter(ctx, filesResult{trouble: "the signed files cannot be read: " + err.Error()})
		return nil
	}
	if now := f.cfg.Now(); !now.Before(f.probeDue) || !local.Exists && now.Sub(f.probe.at) > f.cfg.ProbeInterval/5 {
		f.talk(ctx, local)
	}
	if local.Exists {
		f.subscriber.connect(ctx)
	}
	f.mu.Lock()
	spoiled := f.spoiled
	f.mu.Unlock()
	v := diagnoseFiles(filesSight{
		now: f.cfg.Now(), site: f.cfg.Site, stall: f.cfg.StallAfter, local: local, probe: f.probe,
		forked: f.forked, wrong: cmp.Or(f.wrong, spoiled), failed: f.failed, wanted: f.wanted, since: f.since,
	})
	if ctx.Err() != nil {
		return nil
	}
	f.enter(ctx, v)
	switch now := f.cfg.Now(); {
	case v.enable:
		f.subscriber.enable(ctx)
	case v.seed != "" && f.subscriber.backoff.ready(now):
		f.seed(ctx, v.seed, local)
	case v.seed == "" && v.trouble == "":
		f.subscriber.backoff.healthy(now)
	}
	return nil
}

// inspect reads the subscription, and the files that it brought.
func (f *Files) inspect(ctx context.Context) (sitedb.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	local, err := f.cfg.Local.Subscription(ctx, db.FilesSubscriptionName)
	if err == nil {
		err = f.takeKeys(ctx)
	}
	if err == nil && local.Exists {
		err = f.read(ctx)
	}
	return local, err
}

// talk asks the master for this site's slots and its newest checkpoint. The subscription of the
// rows reports a master that is away.
func (f *Files) talk(ctx context.Context, local sitedb.Subscription) {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, f.cfg.MasterTimeout)
	defer cancel()
	slots, err := f.cfg.Master.Slots(ctx, f.cfg.Site)
	var newest db.FeedNote
	if err == nil {
		if newest, err = f.cfg.Master.FeedNote(ctx); errors.Is(err, db.ErrNotFound) {
			err = nil
		}
	}
	now := f.cfg.Now()
	f.probe, f.probeDue = filesProbe{now, err, slots}, now.Add(f.cfg.ProbeInterval)
	if err != nil {
		return
	}
	if newest.Note != nil {
		f.compare(outer, newest)
	}
	f.subscriber.dropOrphans(outer, slots, local.Slot)
}

// seed copies the files again.
func (f *Files) seed(ctx context.Context, why string, local sitedb.Subscription) {
	err := f.cfg.Local.SeedFiles(ctx, f.cfg.Master, f.subscriber.newSlot())
	f.subscriber.backoff.attempted(f.cfg.Now())
	f.probeDue = time.Time{}
	if err != nil {
		if ctx.Err() == nil { // a stop is not a failure
			f.failed = ", which failed: " + err.Error()
			f.cfg.Log.ErrorContext(ctx, "signed files not copied", slog.String("reason", why), slog.String("error", err.Error()))
		}
		return
	}
	f.subscriber.connected, f.seen, f.wrong, f.failed, f.wanted = true, nil, "", "", time.Time{}
	f.mu.Lock()
	f.spoiled = ""
	f.mu.Unlock()
	f.cfg.Log.InfoContext(ctx, "signed files copied", slog.String("reason", why))
	if ours(local.Slot, f.cfg.Site) && db.IsFilesSlot(local.Slot) {
		f.subscriber.dropSlot(ctx, local.Slot)
	}
}

// enter sets the new state, and logs what is new.
func (f *Files) enter(ctx context.Context, v filesResult) {
	f.cfg.Metrics.shows(f.stood, f.cfg.Now())
	f.mu.Lock()
	known := f.trouble
	f.trouble = v.trouble
	f.mu.Unlock()
	switch {
	case (known == "") != (v.trouble == "") && v.trouble == "":
		f.cfg.Log.InfoContext(ctx, "signed files come again")
	case known == "" && v.trouble != "":
		f.cfg.Log.WarnContext(ctx, "signed files do not come", slog.String("why", v.trouble))
	}
}

// remembers says whether these are the key sets that were read last.
func (f *Files) remembers(notes [][]byte) bool {
	return f.notes != nil && slices.EqualFunc(notes, f.notes, func(a, b []byte) bool { return string(a) == string(b) })
}
