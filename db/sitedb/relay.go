package sitedb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// RelayNeed is what decides whether a relay must take a newer snapshot: a peer that begins here
// needs one, and all segments after it.
type RelayNeed struct {
	Epoch, Position int64       // of the copy
	Newest          db.Snapshot // Note is nil: there is none of this epoch
	Since           int64       // octets of the segments kept since
	Broken          bool        // they do not continue it
}

// snapshotNumber is the number of the segment that snapshot s names: a reader of the snapshot
// continues with the next one, which may end at the snapshot's position or before it.
const snapshotNumber = `substring(convert_from(s.note, 'UTF8') from E'\nsegment ([0-9]+)\n')::bigint`

// RelayNeed compares the newest snapshot that is kept here with the segments since.
func (s *DB) RelayNeed(ctx context.Context) (RelayNeed, error) {
	var need RelayNeed
	err := s.pool.QueryRow(ctx, "select epoch, (select coalesce(max(last), 0) from segment s where s.epoch = a.epoch) from feed_anchor a").
		Scan(&need.Epoch, &need.Position)
	if errors.Is(err, pgx.ErrNoRows) {
		return RelayNeed{}, fmt.Errorf("looking at what is relayed: %w", db.ErrNotFound)
	}
	if err != nil {
		return RelayNeed{}, fmt.Errorf("looking at what is relayed: %w", pg.Plain(err))
	}
	need.Newest, err = s.NewestSnapshot(ctx, need.Epoch)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return RelayNeed{}, err
	}
	need.Position = max(need.Position, need.Newest.Position)
	err = s.pool.QueryRow(ctx, `with newest as (
		  select coalesce(max(`+snapshotNumber+`), 0) as number from snapshot s where epoch = $1 and position = $2)
		select coalesce(sum(octet_length(body) + octet_length(note)), 0), coalesce(bool_or(snapshot_required and last > $2), false) or coalesce(min(g.number) > min(newest.number) + 1, false)
		from segment g, newest where epoch = $1 and g.number > newest.number`, need.Epoch, need.Newest.Position).Scan(&need.Since, &need.Broken)
	if err != nil {
		return RelayNeed{}, fmt.Errorf("looking for segments since the snapshot: %w", pg.Plain(err))
	}
	return need, nil
}

// KeepSnapshot stores a verified snapshot's files for peers; the copy and its anchor do not
// change. Of the older ones, one is kept.
func (s *DB) KeepSnapshot(ctx context.Context, from FeedSeed) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := from.keep(ctx, tx); err != nil {
			return err
		}
		return dropSnapshots(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("keeping the snapshot of position %d: %w", from.Snapshot.Position, pg.Plain(err))
	}
	return nil
}

// TrimRelayed deletes segments that came here longer ago than keep. With relays, those stay that
// continue the newest snapshot kept here; the newest one of the epoch always stays.
func (s *DB) TrimRelayed(ctx context.Context, keep time.Duration, relays bool) (int64, error) {
	tag, err := s.pool.Exec(ctx, `delete from segment g where sealed_at < clock_timestamp() - make_interval(secs => $1)
		and (number < (select max(number) from segment n where n.epoch = g.epoch) and (not $2 or number <= (select max(`+snapshotNumber+`) from snapshot s where s.epoch = g.epoch))
		  or epoch < (select epoch from feed_anchor))`, keep.Seconds(), relays)
	if err != nil {
		return 0, fmt.Errorf("trimming segments: %w", pg.Plain(err))
	}
	return tag.RowsAffected(), nil
}
