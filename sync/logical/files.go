package logical

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"golang.org/x/mod/sumdb/note"
)

// FilesConfig says how to keep the signed files of a native site in step. A zero duration
// stands for its default.
type FilesConfig struct {
	// Site, Local and Master are as in Config.
	Site   string
	Local  *sitedb.DB
	Master *sitedb.Upstream
	// Root verifies the key sets, and so all that is believed.
	Root note.Verifier
	// Latest is told of each checkpoint that was verified, for the relay. May be nil.
	Latest *feedhttp.Latest
	// Behind is told when the master shows less than it signed, Forked when another
	// contradiction was kept. May be nil.
	Behind func(ours, theirs []byte)
	Forked func()
	// Interval between two looks at the files here. Default 1 s.
	Interval time.Duration
	// ProbeInterval between two talks with the master. Default 10 s.
	ProbeInterval time.Duration
	// MasterTimeout bounds one talk with the master. Default 15 s.
	MasterTimeout time.Duration
	// StallAfter is how long the files may lack what the master has signed. Default 30 s;
	// after four times that they are copied anew.
	StallAfter time.Duration
	// Log gets what is wrong, and copies that were made.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *FilesMetrics
	// Now is the site's clock. Default time.Now.
	Now func() time.Time
}

// Files keeps the signed files of a site by native replication in step with the master: they
// come by a subscription of their own, which holds up no row. What comes is verified here for
// those who fetch it from this site; ocspd verifies for itself. Run is called once, the rest
// is safe for concurrent use.
type Files struct {
	cfg FilesConfig

	mu      sync.Mutex // guards what follows
	trouble string
	keys    *feed.KeySet // the newest under the root; nil: there is none
	spoiled string       // a segment that was to be served is wrong

	// What follows belongs to Run's goroutine.
	notes     [][]byte  // the key sets looked at last
	stood     verified  // the newest checkpoint that was verified
	seen      []byte    // the checkpoint looked at last
	wrong     string    // what is wrong with it; empty: nothing
	forked    string    // how the master contradicts what it signed; empty: it does not
	wanted    time.Time // as_of of what the master has signed and is not here; zero: nothing
	since     time.Time // when that was seen
	probe     filesProbe
	probeDue  time.Time
	connected bool
	backoff   backoff
	failed    string // why the last copy was broken off; empty: it was not
}

// verified is a checkpoint with its note; its Checkpoint is nil: none.
type verified struct {
	*feed.Checkpoint
	note []byte
}

// filesProbe is what the last talk with the master gave.
type filesProbe struct {
	at    time.Time
	err   error
	slots []db.Slot
}

// NewFiles fills in the defaults.
func NewFiles(cfg FilesConfig) *Files {
	cfg.Interval, cfg.ProbeInterval = cmp.Or(cfg.Interval, time.Second), cmp.Or(cfg.ProbeInterval, 10*time.Second)
	cfg.MasterTimeout, cfg.StallAfter = cmp.Or(cfg.MasterTimeout, 15*time.Second), cmp.Or(cfg.StallAfter, 30*time.Second)
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
	return &Files{cfg: cfg}
}

// Trouble says why the signed files stand still, or are not believed; empty: all is well.
func (f *Files) Trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble
}

// Run watches and repairs until ctx ends; it returns nil then.
func (f *Files) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		f.step(ctx)
		timer.Reset(f.cfg.Interval)
	}
}

// step is one look, and one deed at most.
func (f *Files) step(ctx context.Context) {
	local, err := f.inspect(ctx)
	if ctx.Err() != nil {
		return // what was seen is the stop itself
	}
	if err != nil {
		f.enter(ctx, filesResult{trouble: "the signed files cannot be read: " + err.Error()})
		return
	}
	if now := f.cfg.Now(); !now.Before(f.probeDue) || !local.Exists && now.Sub(f.probe.at) > f.cfg.ProbeInterval/5 {
		f.talk(ctx, local)
	}
	if local.Exists && !f.connected && f.probe.err == nil {
		f.connected = f.act(ctx, "telling the files' subscription the way to the master", func(ctx context.Context) error {
			return f.cfg.Local.ConnectSubscription(ctx, db.FilesSubscriptionName, f.cfg.Master)
		})
	}
	v := f.diagnose(local)
	if ctx.Err() != nil {
		return
	}
	f.enter(ctx, v)
	switch now := f.cfg.Now(); {
	case v.enable:
		f.act(ctx, "enabling the files' subscription again", func(ctx context.Context) error {
			return f.cfg.Local.EnableSubscription(ctx, db.FilesSubscriptionName, true)
		})
	case v.seed != "" && f.backoff.ready(now):
		f.seed(ctx, v.seed, local)
	case v.seed == "" && v.trouble == "":
		f.backoff.healthy(now)
	}
}

// inspect reads the subscription, and takes up what it brought.
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

// talk asks the master for this site's slots and its newest checkpoint. One that is away
// is told of by the subscription of the rows.
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
	for _, slot := range slots {
		if db.IsFilesSlot(slot.Name) && slot.Name != local.Slot && !slot.Active && f.age(slot.Name) > orphanAge {
			f.drop(outer, slot.Name)
		}
	}
}

// filesResult is what is wrong, and what to do about it.
type filesResult struct {
	trouble string
	enable  bool
	seed    string // why the files are copied anew
}

// diagnose says what is wrong with the subscription of the files, or with what it brought.
func (f *Files) diagnose(local sitedb.Subscription) filesResult {
	const ages = "where feed.root is pinned, ocspd's copy ages: "
	if f.forked != "" { // what is here is the evidence
		return filesResult{trouble: "the master contradicts what it signed: " + f.forked + ": ocspctl fleet status at the master, docs/feed-keys.md"}
	}
	var why string
	switch {
	case !local.Exists:
		why = "they were never copied"
	case local.Wrong != "":
		why = "their subscription is set otherwise than we do: " + local.Wrong
	case !ours(local.Slot, f.cfg.Site) || !db.IsFilesSlot(local.Slot):
		why = fmt.Sprintf("their subscription follows slot %q, which is not one of site %s for them", local.Slot, f.cfg.Site)
	case local.Tables != sitedb.FilesTables || local.InStep != sitedb.FilesTables:
		why = fmt.Sprintf("%d of %d tables are in step", local.InStep, local.Tables)
	case !local.Enabled:
		return filesResult{trouble: "signed files: somebody disabled subscription " + db.FilesSubscriptionName + ", it is enabled again", enable: true}
	case f.probe.err == nil:
		why = slotLost(sight{local: local, probe: probe{at: f.probe.at, slots: f.probe.slots}})
	}
	if why == "" && f.wrong != "" {
		why = f.wrong
	}
	if why == "" {
		f.mu.Lock()
		why = f.spoiled
		f.mu.Unlock()
	}
	switch {
	case why != "" && f.probe.err != nil:
		return filesResult{trouble: "signed files: " + why + ", and they cannot be copied: " + f.probe.err.Error()}
	case why != "":
		return filesResult{trouble: "signed files: " + why + "; ocspsyncd copies them anew" + f.failed, seed: why}
	}
	late := f.cfg.Now().Sub(f.since)
	if f.wanted.IsZero() || late <= f.cfg.StallAfter || f.probe.err != nil {
		return filesResult{}
	}
	cause := "its worker runs: somebody holds a lock on its tables, or deleted rows there"
	if !local.Worker {
		cause = fmt.Sprintf("its worker does not run, and failed %d times so far: this site's PostgreSQL log says why", local.Errors)
	}
	v := filesResult{trouble: fmt.Sprintf("signed files stand still: what the master signed at %s has not come; %ssubscription %s: %s",
		f.wanted.UTC().Format(time.RFC3339), ages, db.FilesSubscriptionName, cause)}
	if late > 4*f.cfg.StallAfter {
		v.trouble += "; ocspsyncd copies them anew" + f.failed
		v.seed = "they stand still"
	}
	return v
}

// seed copies the files anew.
func (f *Files) seed(ctx context.Context, why string, local sitedb.Subscription) {
	slot := db.SlotPrefix(f.cfg.Site) + "0" + strconv.FormatInt(f.cfg.Now().Unix(), 10)
	err := f.cfg.Local.SeedFiles(ctx, f.cfg.Master, slot)
	f.backoff.attempted(f.cfg.Now())
	f.probeDue = time.Time{}
	if err != nil {
		if ctx.Err() == nil { // a stop is no failure
			f.failed = ", which failed: " + err.Error()
			f.cfg.Log.ErrorContext(ctx, "signed files not copied", slog.String("reason", why), slog.String("error", err.Error()))
		}
		return
	}
	f.connected, f.seen, f.wrong, f.failed, f.wanted = true, nil, "", "", time.Time{}
	f.mu.Lock()
	f.spoiled = ""
	f.mu.Unlock()
	f.cfg.Log.InfoContext(ctx, "signed files copied", slog.String("reason", why))
	if ours(local.Slot, f.cfg.Site) && db.IsFilesSlot(local.Slot) {
		f.drop(ctx, local.Slot)
	}
}

// drop drops a slot that is needed no more; an orphan is found again.
func (f *Files) drop(ctx context.Context, slot string) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.MasterTimeout)
	defer cancel()
	if err := f.cfg.Master.DropSlot(ctx, slot); err != nil {
		f.cfg.Log.WarnContext(ctx, "old slot not dropped", slog.String("slot", slot), slog.String("error", err.Error()))
	}
}

// age is how long ago a slot of the files was made, by its name.
func (f *Files) age(slot string) time.Duration {
	seconds, err := strconv.ParseInt(strings.TrimPrefix(slot, db.SlotPrefix(f.cfg.Site)), 10, 64)
	if err != nil {
		return 0 // not made by us
	}
	return f.cfg.Now().Sub(time.Unix(seconds, 0))
}

// act does something on the site's database that may be tried again later.
func (f *Files) act(ctx context.Context, what string, do func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	err := do(ctx)
	if err != nil && ctx.Err() == nil {
		f.cfg.Log.ErrorContext(ctx, "maintenance failed", slog.String("what", what), slog.String("error", err.Error()))
	}
	return err == nil
}

// enter shows what was found, and logs what is new.
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

// remembers says whether these are the key sets that were looked at last.
func (f *Files) remembers(notes [][]byte) bool {
	return f.notes != nil && slices.EqualFunc(notes, f.notes, func(a, b []byte) bool { return string(a) == string(b) })
}
