package publish

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"

	"golang.org/x/mod/sumdb/note"
)

// SnapshotterConfig says when snapshots are made, and which keys sign them. A zero duration stands
// for its default.
type SnapshotterConfig struct {
	// Store, Key, Next, Keys and Root are as in SealerConfig.
	Store     *publisherdb.DB
	Key, Next *feed.Key
	Keys      *feed.KeySet
	Root      note.Verifier
	// Poll is how often the need is checked. Default 10 s.
	Poll time.Duration
	// Every is the age at which a snapshot is replaced, if anything changed since. Default 24 h. A
	// snapshot is made sooner if the epoch is young, if the segments since are longer than the
	// snapshot, or if one of them requires a snapshot.
	Every time.Duration
	// Keep is how long segments stay that both kept snapshots cover: a site that was away for less
	// continues with them, another takes a snapshot. Default 30 d.
	Keep time.Duration
	// Log gets new snapshots, and troubles.
	Log *slog.Logger
	// Now is this machine's clock. Default time.Now.
	Now func() time.Time
}

// leastSince is the size of the segments, in octets, below which no new snapshot is made.
const leastSince = 1 << 20

// snapshotTimeout bounds one snapshot: 1 M rows take 3 s, 140 M seven minutes.
const snapshotTimeout = time.Hour

// Snapshotter makes sealed snapshots at the master, from which new and lost sites begin. Run is
// called once; Trouble is safe for concurrent use.
type Snapshotter struct {
	cfg     SnapshotterConfig
	trouble health.Trouble

	// The fields below belong to Run's goroutine.
	ring    keyring
	trimDue time.Time
	good    int64 // position of the newest snapshot that the set in force has opened
}

// NewSnapshotter sets the defaults.
func NewSnapshotter(cfg SnapshotterConfig) *Snapshotter {
	cfg.Poll, cfg.Every, cfg.Keep = cmp.Or(cfg.Poll, 10*time.Second), cmp.Or(cfg.Every, 24*time.Hour), cmp.Or(cfg.Keep, 30*24*time.Hour)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Snapshotter{cfg: cfg, ring: newKeyring(cfg.Store, cfg.Root, cfg.Keys, cfg.Key, cfg.Next)}
}

// Trouble says why no snapshot can be made; empty: all is well.
func (a *Snapshotter) Trouble() string { return a.trouble.Get() }

// Run makes snapshots until ctx ends; it returns nil then.
func (a *Snapshotter) Run(ctx context.Context) error {
	failed := func(text string) {
		a.cfg.Log.ErrorContext(ctx, "no snapshot can be made", slog.String("error", text))
	}
	return health.Every{Pause: health.Always(a.cfg.Poll), Trouble: &a.trouble, Failed: failed}.Run(ctx, a.step)
}

func (a *Snapshotter) step(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, feedhttp.CallTimeout)
	defer cancel()
	need, err := a.cfg.Store.SnapshotNeed(call)
	if err != nil {
		return err
	}
	renewed, err := a.ring.renew(call, a.cfg.Now())
	if err != nil {
		return err
	}
	if renewed {
		a.good = 0
	}
	if err := a.trim(call); err != nil {
		return err
	}
	if need.Head.Epoch != a.ring.set.Epoch || !a.due(need) {
		return nil // the sealer reports a wrong epoch
	}
	return a.make(ctx)
}

// trimEvery is how often old segments are deleted, or Poll if that is longer.
const trimEvery = time.Minute

func (a *Snapshotter) trim(ctx context.Context) error {
	if a.cfg.Now().Before(a.trimDue) {
		return nil
	}
	a.trimDue = a.cfg.Now().Add(trimEvery)
	n, err := a.cfg.Store.TrimSegments(ctx, a.cfg.Keep)
	if n > 0 {
		a.cfg.Log.InfoContext(ctx, "old segments are gone: snapshots cover them", slog.Int64("segments", n))
	}
	return err
}

func (a *Snapshotter) due(need publisherdb.SnapshotNeed) bool {
	switch newest := need.Newest; {
	case newest.Note != nil && !a.opens(newest):
		return true // a key signed it that is banned or not in the set any more: no site would accept it
	case newest.Note != nil && need.Head.Position == newest.Position:
		return false
	case newest.Note == nil || need.SnapshotRequired || need.Since > max(newest.Octets, leastSince):
		return true
	default:
		// While an epoch is young, the next snapshot is made as soon as the last is as old as the
		// epoch was: this corrects what was forgotten at its begin, and sites that rightly refused
		// the snapshot wait for the corrected one.
		youth := max(newest.MadeAt.Sub(time.Unix(newest.Epoch, 0)), a.cfg.Poll)
		return a.cfg.Now().Sub(newest.MadeAt) >= min(a.cfg.Every, youth)
	}
}

func (a *Snapshotter) opens(newest db.Snapshot) bool {
	if a.good == 0 || a.good != newest.Position {
		if _, err := a.ring.set.OpenSnapshot(newest.Note); err != nil {
			return false
		}
		a.good = newest.Position
	}
	return true
}

func (a *Snapshotter) make(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	began := a.cfg.Now()
	var s feed.Snapshot
	err := a.cfg.Store.MakeSnapshot(ctx, func(ctx context.Context, w *publisherdb.Sealing, put func(int, []byte) error) (db.Snapshot, error) {
		cut := feed.Chunker{Write: put}
		if err := w.Rows(ctx, cut.Add); err != nil {
			return db.Snapshot{}, err
		}
		if err := cut.Close(); err != nil {
			return db.Snapshot{}, err
		}
		key, err := a.ring.signer(w.Head.Epoch, w.Head.AsOf)
		if err != nil {
			return db.Snapshot{}, err
		}
		s = feed.Snapshot{Checkpoint: feed.NewCheckpoint(a.ring.set.Origin, w.Head, w.PurgeBefore), Chunks: cut.Chunks}
		s.KeySet, s.Number, s.Segment, s.Previous = a.ring.set.Number, w.Last.Number, feed.Hash(w.Last.Hash), feed.Hash(w.Last.NoteHash)
		signed, err := s.Sign(key)
		return db.Snapshot{Note: signed, Octets: s.Size()}, err
	})
	if err != nil {
		return err
	}
	a.cfg.Log.InfoContext(ctx, "snapshot made", slog.Int64("position", s.Position), slog.Int64("octets", s.Size()),
		slog.Int("chunks", len(s.Chunks)), slog.Duration("took", a.cfg.Now().Sub(began)))
	return nil
}
