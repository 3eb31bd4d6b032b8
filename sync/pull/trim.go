package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"
	"ocspfleet/sync/replica"

	"golang.org/x/mod/sumdb/note"
)

// TrimmerConfig says which of the feed's files a site keeps. A zero duration or number stands for
// its default.
type TrimmerConfig struct {
	// Store is the site's database, by a login in ocsp_sync.
	Store *sitedb.DB
	// Relays says that others fetch from here: then the newest snapshot and all segments since it
	// stay, and a newer one is taken when those grow long.
	Relays bool
	// Origin, Root, Sources and PreferPeers are as in Config; a snapshot to relay is fetched from
	// the sources. A relay needs them.
	Origin      string
	Root        note.Verifier
	Sources     []*feedhttp.Client
	PreferPeers bool
	// Keep is how long segments stay that the newest snapshot covers: a peer that was away for less
	// continues with them, another takes the snapshot. Default 30 d.
	Keep time.Duration
	// Least is the size of the segments, in octets, below which no new snapshot is taken. Default
	// 16 MiB.
	Least int64
	// Every is the pause between two runs. Default 10 min.
	Every time.Duration
	Log   *slog.Logger
}

const (
	// outgrown is how many times longer than the snapshot the segments since it may be before a
	// newer one is taken: this adds a quarter to the cost of the segments.
	outgrown = 4
)

// Trimmer deletes what a site no longer needs: old deletions and revocations, old segments, and at
// a relay an outgrown snapshot, which it replaces by a newer one.
type Trimmer struct{ cfg TrimmerConfig }

// NewTrimmer sets the defaults.
func NewTrimmer(cfg TrimmerConfig) *Trimmer {
	cfg.Keep, cfg.Least, cfg.Every = cmp.Or(cfg.Keep, 30*24*time.Hour), cmp.Or(cfg.Least, 16<<20), cmp.Or(cfg.Every, 10*time.Minute)
	return &Trimmer{cfg}
}

// Run trims until ctx ends; it returns nil then.
func (t *Trimmer) Run(ctx context.Context) error {
	failed := func(text string) {
		t.cfg.Log.WarnContext(ctx, "what is old cannot be trimmed", slog.String("error", text))
	}
	// Relays of a swarm differ in time: one fetches the snapshot, the others fetch it there.
	pause := func() time.Duration { return t.cfg.Every + rand.N(t.cfg.Every/4+1) }
	return health.Every{Pause: pause, Failed: failed}.Run(ctx, func(ctx context.Context) error {
		return errors.Join(t.deletions(ctx), t.segments(ctx))
	})
}

// deletions removes old deletions, and the remembered revocations of certificates that have ended.
func (t *Trimmer) deletions(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	n, err := t.cfg.Store.FeedNote(call)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	return replica.Tidy(call, t.cfg.Store, replica.TombstoneAge, time.Now(), n.AsOf)
}

func (t *Trimmer) segments(ctx context.Context) error {
	if t.cfg.Relays {
		if err := t.refresh(ctx); err != nil {
			return err
		}
	}
	call, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	_, err := t.cfg.Store.TrimRelayed(call, t.cfg.Keep, t.cfg.Relays)
	return err
}

// refresh takes a newer snapshot if the segments since the one here are long, or do not continue
// it.
func (t *Trimmer) refresh(ctx context.Context) error {
	need, err := t.cfg.Store.RelayNeed(ctx)
	if errors.Is(err, db.ErrNotFound) {
		return nil // nothing has come yet
	}
	if err != nil {
		return err
	}
	keys, _, err := feed.StoredKeySet(ctx, t.cfg.Store, t.cfg.Origin, t.cfg.Root)
	if err != nil {
		return err
	}
	if need.Newest.Note != nil {
		if _, err := keys.OpenSnapshot(need.Newest.Note); err != nil && keys.Epoch == need.Epoch {
			need.Newest, need.Broken = db.Snapshot{}, true // no peer would accept it
		}
	}
	if !need.Broken && need.Since <= max(outgrown*need.Newest.Octets, t.cfg.Least) {
		return nil
	}
	sources := slices.Clone(t.cfg.Sources)
	if t.cfg.PreferPeers { // the master is first, and is asked last
		rand.Shuffle(len(sources)-1, func(i, j int) { sources[i+1], sources[j+1] = sources[j+1], sources[i+1] })
		sources = append(sources[1:], sources[0])
	}
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	err = fmt.Errorf("%w: a snapshot that is newer than that of position %d", ErrGap, need.Newest.Position)
	for _, source := range sources {
		if taken := t.fetch(ctx, source, keys, need); taken == nil {
			return nil
		} else if !errors.Is(taken, ErrGap) {
			err = taken
		}
	}
	return fmt.Errorf("looking for a snapshot to relay: %w", err)
}

// fetch takes the newest snapshot of a source if it is useful: newer than the one here, of this
// history, and not beyond the copy's position.
func (t *Trimmer) fetch(ctx context.Context, from *feedhttp.Client, keys *feed.KeySet, need sitedb.RelayNeed) error {
	signed, err := from.NewestSnapshot(ctx, need.Epoch)
	if err != nil {
		return err
	}
	s, err := keys.OpenSnapshot(signed)
	if err != nil {
		return err
	}
	if s.Position <= need.Newest.Position || s.Position > need.Position {
		return fmt.Errorf("%w: its snapshot is of position %d", ErrGap, s.Position)
	}
	if at, err := t.cfg.Store.FeedSegment(ctx, s.Epoch, s.Number); err == nil && feed.Hash(at.Hash) != s.Segment {
		return fmt.Errorf("%w: its snapshot is of another history", ErrFork)
	}
	err = t.cfg.Store.KeepSnapshot(ctx, sitedb.FeedSeed{
		Chunks: len(s.Chunks), Snapshot: db.Snapshot{Epoch: s.Epoch, Position: s.Position, Octets: s.Size(), Note: signed},
		Chunk: func(ctx context.Context, i int) ([]byte, []db.Change, error) {
			body, err := from.Chunk(ctx, s.Epoch, s.Position, feedhttp.Tag(signed), i)
			if err == nil {
				_, err = s.OpenChunk(i, body)
			}
			return body, nil, err
		},
	})
	if err == nil {
		t.cfg.Log.InfoContext(ctx, "snapshot taken, to be relayed", slog.String("source", from.String()), slog.Int64("position", s.Position), slog.Int64("octets", s.Size()))
	}
	return err
}
