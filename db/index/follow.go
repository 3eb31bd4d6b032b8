package index

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

const (
	// lookGap is the least time between two checks of the database: 200 of them a second, each
	// of one round trip, cost about a tenth of a core.
	lookGap = 5 * time.Millisecond
	// A diverged copy is read as a whole again, for at most 1/60 of the time.
	reloadShare   = 60
	minReloadWait = time.Second
	maxReloadWait = 10 * time.Minute

	minListenWait = 100 * time.Millisecond
	maxListenWait = 10 * time.Second
)

// follower is the state of Run's goroutine.
type follower struct {
	held    db.Head   // the adopted head
	before  db.Head   // the last head of another epoch
	seq     uint64    // site_seq up to which changes were adopted
	started time.Time // when the postmaster of the adopted snapshot started

	received time.Time // when the adopted head was first seen
	skewed   bool      // this site's clock differs from the master's
	memory   memory    // remembered and lost revocations
	clock    string    // what is wrong with the clock, or that the master denies this site access
	trouble  result    // why the latest snapshot was refused
	signed   signed    // the feed's checkpoints and key sets
	asOf     time.Time // of the adopted head, by its own statement
	judged   *lists    // the lists that doubtful belongs to
	doubtful []db.Correction

	loadEnded time.Time // of the latest load of all rows
	loadTook  time.Duration
	seen      sign // the trouble's sign when all rows were last read
}

// Run follows the database until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	var listener sync.WaitGroup
	listener.Go(func() { x.listen(ctx, wake) })
	defer listener.Wait()
	poll := time.NewTicker(x.cfg.Poll)
	defer poll.Stop()
	for {
		err := x.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		x.note(ctx, err)
		if !sleep(ctx, lookGap) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-poll.C:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// listen wakes the follower at notifications. It makes a lost connection again; until then the
// poll wakes the follower.
func (x *Index) listen(ctx context.Context, wake chan<- struct{}) {
	wait := minListenWait
	for ctx.Err() == nil {
		err := x.store.ListenHead(ctx, func() {
			wait = minListenWait
			select {
			case wake <- struct{}{}:
			default: // it is already awake
			}
		})
		if ctx.Err() != nil {
			return
		}
		x.log.DebugContext(ctx, "listening ended", slog.Any("error", err), slog.Duration("again_in", wait))
		sleep(ctx, wait)
		wait = min(2*wait, maxListenWait)
	}
}

// step reads the database and adopts what can be adopted. An error means that the database
// could not be read.
func (x *Index) step(ctx context.Context) error {
	if x.trouble.kind != adoptable {
		return x.recover(ctx)
	}
	// If they differ: once more in a new snapshot, then all rows, then the alarm.
	modes := []mode{asNeeded, asNeeded, everything}
	if x.table.Load() == nil {
		modes = []mode{everything, everything}
	}
	var v result
	for _, m := range modes {
		var err error
		if v, err = x.refresh(ctx, m); err != nil {
			return err
		}
		if v.kind != divergence {
			break
		}
	}
	x.refuse(ctx, v)
	return nil
}

// recover checks whether the trouble is over. It reads all rows only when that may find
// something new, or from time to time.
func (x *Index) recover(ctx context.Context) error {
	v, err := x.refresh(ctx, changesOnly)
	if err != nil {
		return err
	}
	if v.kind == divergence {
		waited := x.cfg.Now().Sub(x.loadEnded)
		due := min(max(reloadShare*x.loadTook, minReloadWait), maxReloadWait)
		if v.sign != x.seen {
			due = max(5*x.loadTook, minReloadWait)
		}
		switch {
		case waited >= due || waited < 0:
			x.seen = v.sign
			if v, err = x.refresh(ctx, everything); err != nil {
				return err
			}
		case v.sign.needs != "":
			v = x.trouble // nothing new was found
		}
	}
	x.refuse(ctx, v)
	return nil
}

// deltaRows is how many changes are read with the head: two transactions of an import.
const deltaRows = 10_000

// readDelta reads in one round trip, for the case after nearly each segment: only a few
// certificates changed. It returns whether that was enough.
func (x *Index) readDelta(ctx context.Context) (v result, enough bool, err error) {
	began := x.cfg.Now()
	l, err := x.store.Delta(ctx, x.seq, x.memory.seq, deltaRows)
	if errors.Is(err, db.ErrNoHead) {
		return v, false, nil // a ReadTx reports it
	}
	if err != nil {
		return v, false, err
	}
	s, v := x.open(ctx, l, began)
	if v.kind != adoptable {
		return v, true, nil
	}
	held := x.lists.Load()
	if held.issuerTally != l.Head.Issuers || held.responderTally != l.Head.ResponderCertificates || held.correctionTally != l.Head.Corrections || held.closedTally != l.Head.ClosedPins ||
		x.needsAll(l) != "" {
		return v, false, nil
	}
	if err := x.readChanges(ctx, l, s, deltaRows); err != nil || s.needs != "" {
		return v, false, err
	}
	s.lists, s.memory = held, x.memory
	if err := s.readRemembered(ctx, l); err != nil {
		return v, false, err
	}
	if v = x.check(s); v.kind == adoptable {
		x.adopt(ctx, s)
	}
	return v, v.kind == adoptable, nil
}

// open processes a read except its rows.
func (x *Index) open(ctx context.Context, l *sitedb.ReadTx, began time.Time) (*snapshot, result) {
	x.clock = clockDoubt(l)
	x.skewed = x.clock != ""
	if x.cfg.Doubt != nil && x.clock == "" {
		x.clock = x.cfg.Doubt()
	}
	if l.AccessDenied != "" {
		x.clock = "access denied: " + l.AccessDenied
	}
	x.readSigned(ctx, l)
	return &snapshot{head: l.Head, seq: l.LastSeq, started: l.Started, received: began}, x.checkHead(l)
}

// refresh takes one snapshot, checks it and adopts it if possible.
func (x *Index) refresh(ctx context.Context, m mode) (result, error) {
	if m == asNeeded && x.table.Load() != nil {
		if v, enough, err := x.readDelta(ctx); enough || err != nil {
			return v, err
		}
	}
	began := x.cfg.Now()
	var s *snapshot
	var v result
	err := x.store.ReadTx(ctx, func(ctx context.Context, l *sitedb.ReadTx) error {
		if s, v = x.open(ctx, l, began); v.kind != adoptable {
			return nil
		}
		return x.read(ctx, l, s, m)
	})
	if errors.Is(err, db.ErrNoHead) {
		v = result{kind: noHead, text: "divergence: the head row is gone"}
		if x.table.Load() == nil {
			v.text = db.ErrNoHead.Error() + ": the site was not seeded yet"
		}
		return v, nil
	}
	if err != nil || v.kind != adoptable {
		return v, err
	}
	if s.all != nil {
		s.table, s.all = s.all.table(), nil
		x.loadEnded = x.cfg.Now()
		x.loadTook = x.loadEnded.Sub(began)
	}
	if v = x.check(s); v.kind == adoptable {
		x.adopt(ctx, s)
	}
	return v, nil
}

// adopt publishes a snapshot: lost revocations before the rows, the horizon last (by refuse).
func (x *Index) adopt(ctx context.Context, s *snapshot) {
	x.recall(slices.Concat(s.memory.lost, x.memory.lost)...)
	if s.table != nil {
		x.table.Store(s.table)
		x.cfg.Metrics.reloaded()
		x.log.InfoContext(ctx, "copy loaded", slog.Int64("certificates", s.tally.Count), slog.Int64("position", s.head.Position),
			slog.Duration("took", x.loadTook))
	} else if len(s.changes) > 0 {
		t := x.table.Load()
		t.apply(s.changes)
		if t.crowded() {
			x.table.Store(t.recut())
		}
	}
	x.lists.Store(s.lists)
	x.remember(ctx, s.memory)
	h := s.head
	x.asOf = h.AsOf
	if x.wantsCheckpoint() {
		vouched := x.signed.vouched(h, s.received)
		if vouched.IsZero() && h.Epoch == x.held.Epoch {
			vouched = x.held.AsOf // its key was banned: the horizon stays, and ages
		}
		if vouched.Before(h.AsOf) {
			h.AsOf = vouched
		}
	}
	same := h.Epoch == x.held.Epoch && h.Position == x.held.Position
	switch {
	case !same || h.AsOf.After(x.held.AsOf):
		x.received = s.received
	default:
		h.AsOf = x.held.AsOf // the time of one position never goes back
	}
	if h.Epoch != x.held.Epoch {
		x.before = x.held
	}
	x.held, x.seq, x.started = h, s.seq, s.started
}

// refuse publishes the horizon with the reason against the latest snapshot, none if it was
// adopted, and logs it once per kind of trouble.
func (x *Index) refuse(ctx context.Context, v result) {
	before := x.trouble.kind
	x.trouble = v
	switch {
	case v.kind == noHead && x.table.Load() == nil:
		if v.kind != before { // a new site: normal
			x.log.InfoContext(ctx, "waiting for the first seed", slog.String("why", v.text))
		}
	case v.kind != adoptable && v.kind != before:
		x.log.ErrorContext(ctx, "snapshot refused", slog.String("kind", string(v.kind)), slog.String("why", v.text),
			slog.Any("lost", v.lost), slog.Bool("loaded", x.table.Load() != nil))
	case v.kind == adoptable && before != adoptable:
		x.log.InfoContext(ctx, "snapshots adopted again", slog.String("after", string(before)), slog.Int64("position", x.held.Position))
	}
	x.publish()
	x.tellUnbelieved(ctx)
}

// publish sets the horizon from the follower's state.
func (x *Index) publish() {
	h := db.Horizon{Doubt: x.trouble.text}
	if h.Doubt == "" {
		h.Doubt = x.memory.text
	}
	if x.table.Load() != nil {
		h.Epoch, h.Position, h.AsOf, h.Received = x.held.Epoch, x.held.Position, x.held.AsOf, x.received
		if h.Doubt == "" && x.wantsCheckpoint() && h.AsOf.IsZero() {
			h.Doubt = "feed: no checkpoint vouches for this copy"
			if x.signed.fault != "" {
				h.Doubt += ": " + x.signed.fault
			}
		}
	} else if h.Doubt == "" {
		h.Doubt = ErrNotReady.Error()
	}
	if h.Doubt == "" {
		h.Doubt = x.clock
	}
	if h != *x.horizon.Load() {
		x.horizon.Store(&h)
	}
	x.cfg.Metrics.follow(x.Len(), h.Position, x.trouble.kind != adoptable || x.memory.text != "")
}

// note keeps the result of a step for State, and logs when the database becomes unreachable and
// reachable again.
func (x *Index) note(ctx context.Context, err error) {
	x.cfg.Metrics.database(err == nil)
	x.mu.Lock()
	since := x.state.DownSince
	x.state.Refused = x.trouble.text
	if err != nil && since.IsZero() {
		x.state.DownSince = x.cfg.Now()
	}
	x.state.DownError = ""
	if err != nil {
		x.state.DownError = err.Error()
	} else {
		x.state.DownSince = time.Time{}
	}
	x.mu.Unlock()
	switch {
	case err != nil && since.IsZero():
		x.log.WarnContext(ctx, "database away", slog.Any("error", err))
	case err == nil && !since.IsZero():
		x.log.InfoContext(ctx, "database back", slog.Duration("after", x.cfg.Now().Sub(since)))
	}
}
