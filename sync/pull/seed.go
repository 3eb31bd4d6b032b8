package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/replica"
)

// seed replaces the copy by the source's newest snapshot and all segments from there to checkpoint
// c, in one step: ocspd never answers from a copy that has not caught up.
func (p *Puller) seed(ctx context.Context, from *feedhttp.Client, c *feed.Checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	p.current = false
	why, began := p.reseed, p.cfg.Now()
	signed, err := from.NewestSnapshot(ctx, p.keys.Epoch)
	if err != nil {
		return fmt.Errorf("seeding, since %s: %w", why, err)
	}
	s, err := p.keys.OpenSnapshot(signed)
	if err != nil {
		return err
	}
	if err := p.refusal.of(signed, p.keys, c); err != nil && p.diverged == "" {
		return fmt.Errorf("seeding, since %s: %w", why, err)
	}
	head, err := s.Head()
	if err != nil {
		return err
	}
	since, last, err := p.since(ctx, from, s, c)
	if err != nil {
		return fmt.Errorf("seeding, since %s: %w", why, err)
	}
	var missing error // what the source did not send
	rows := sitedb.FeedSeed{
		Head: head, PurgeBefore: s.PurgeBefore, Chunks: len(s.Chunks), Open: p.keys.OpenCorrections,
		Anchor:   sitedb.Anchor{Epoch: s.Epoch, Number: s.Number, Hash: s.Segment, NoteHash: s.Previous},
		Snapshot: db.Snapshot{Epoch: s.Epoch, Position: s.Position, Octets: s.Size(), Note: signed},
		Chunk: func(ctx context.Context, i int) ([]byte, []db.Change, error) {
			body, err := from.Chunk(ctx, s.Epoch, s.Position, feedhttp.Tag(signed), i)
			var rows []db.Change
			if err == nil {
				rows, err = s.OpenChunk(i, body)
			}
			if ctx.Err() == nil { // otherwise the stop ended the seed
				missing = err
			}
			return body, rows, err
		},
		Steps: len(since),
		Step: func(i int) (sitedb.FeedStep, error) {
			c, segment, err := p.keys.Open(since[i])
			if err != nil {
				return sitedb.FeedStep{}, err
			}
			return p.stepOf(since[i], c, segment)
		},
	}
	var seeded sitedb.Seeded
	p.watched.writing(func() func(*replica.Pace) {
		seeded, err = p.cfg.Store.Replace(ctx, rows)
		return func(pace *replica.Pace) {
			if err == nil {
				pace.Starts(seeded.SiteSeq)
			}
		}
	})
	if errors.Is(err, db.ErrRevocationsLost) {
		p.refusal = refusal{feedhttp.Tag(signed), p.keys.Number, c.Number, err}
	}
	switch {
	case err == nil:
	case missing != nil || errors.Is(err, db.ErrRevocationsLost) || errors.Is(err, sitedb.ErrDiverged):
		return fmt.Errorf("seeding, since %s: %w", why, err)
	default:
		return local(err)
	}
	if last.AsOf.Before(s.AsOf) { // the snapshot is newer than the last seal of its time
		last = &s.Checkpoint
	}
	p.reseed, p.diverged, p.tainted, p.cleansed, p.stood = "", "", false, true, last
	p.cfg.Metrics.seeds.Inc()
	p.cfg.Log.InfoContext(ctx, "copy seeded from the feed", slog.String("source", from.String()), slog.String("since", why), slog.Int64("position", seeded.Head.Position),
		slog.Int64("certificates", seeded.Head.Certificates.Count), slog.Int64("differing", seeded.Differing), slog.Duration("took", p.cfg.Now().Sub(began)))
	p.copy, err = p.cfg.Store.FeedCopy(ctx)
	return local(err)
}

// since returns the verified segments, as they came, that lead from a snapshot to a checkpoint, and
// the checkpoint of the last one.
func (p *Puller) since(ctx context.Context, from *feedhttp.Client, s *feed.Snapshot, c *feed.Checkpoint) (all []feed.Sealed, last *feed.Checkpoint, err error) {
	if s.Epoch != c.Epoch {
		return nil, &s.Checkpoint, nil
	}
	chain := p.keys.After(s)
	for number := s.Number + 1; number <= c.Number; number++ {
		sealed, err := p.segment(ctx, from, s.Epoch, number)
		if errors.Is(err, db.ErrNotFound) {
			return nil, nil, fmt.Errorf("%w: its snapshot is of segment %d, and segment %d is not to be had", ErrGap, s.Number, number)
		}
		if err == nil {
			_, _, err = chain.Next(sealed)
		}
		if err != nil {
			return nil, nil, err
		}
		all = append(all, sealed)
	}
	return all, chain.Last(), nil
}
