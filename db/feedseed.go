package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// FeedSeed is a verified snapshot, and where its rows come from.
type FeedSeed struct {
	Head        Head
	PurgeBefore time.Time
	Anchor      Anchor
	Snapshot    Snapshot // kept, to be relayed
	// Chunk returns the octets and the rows of chunk i of Chunks.
	Chunk  func(ctx context.Context, i int) ([]byte, []Change, error)
	Chunks int
}

// SeedFromFeed replaces the site's copy by a snapshot's rows in one transaction:
// until it commits, readers see the old rows. What does not have the signed counts
// and digests, or would take back a permanent revocation that an intact copy
// knows, changes nothing.
func (s *Store) SeedFromFeed(ctx context.Context, from FeedSeed) (Seeded, error) {
	var seeded Seeded
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		seed := &seed{tx: tx, head: from.Head}
		if err := seed.stageFeed(ctx, from); err != nil {
			return err
		}
		swap, cancel := context.WithTimeout(ctx, swapBase+time.Duration(from.Head.Certificates.Count)*swapPerRow)
		defer cancel()
		if err := seed.swapFeed(swap, from); err != nil {
			return err
		}
		seeded = seed.Seeded
		seeded.Head = from.Head
		return nil
	})
	if err != nil {
		return Seeded{}, fmt.Errorf("seeding from the feed: %w", plain(err))
	}
	return seeded, nil
}

// stageFeed copies the rows into temporary tables and recounts them there; nobody
// waits for it.
func (s *seed) stageFeed(ctx context.Context, from FeedSeed) error {
	for _, t := range FeedTables {
		sql := "create temp table seed_" + t.Name + " (like public." + t.Name + " including defaults) on commit drop"
		if t.Code == CertificateTable {
			sql += "; alter table seed_certificate drop column site_seq" // given when the row becomes visible
		}
		if _, err := s.tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("preparing the copy: %w", err)
		}
	}
	n := from.Snapshot
	for i := range from.Chunks {
		body, rows, err := from.Chunk(ctx, i)
		if err != nil {
			return err
		}
		for _, t := range FeedTables {
			if err := t.stage(ctx, s.tx, rows); err != nil {
				return err
			}
		}
		if err := keepChunk(ctx, s.tx, n, i, body); err != nil {
			return err
		}
	}
	if _, err := s.tx.Exec(ctx, "analyze seed_certificate"); err != nil {
		return fmt.Errorf("preparing the copy: %w", err)
	}
	return s.verify(ctx)
}

// stage copies the rows that are this table's.
func (t FeedTable) stage(ctx context.Context, tx pgx.Tx, rows []Change) error {
	at := 0
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"seed_" + t.Name}, t.columns, pgx.CopyFromFunc(func() ([]any, error) {
		for ; at < len(rows); at++ {
			if rows[at].Table == t.Code {
				at++
				return t.values(rows[at-1].Content)
			}
		}
		return nil, nil
	}))
	if err != nil {
		return fmt.Errorf("staging %s: %w", t.Name, err)
	}
	return nil
}

// swapFeed puts the staged rows in the place of the old ones. Readers wait from
// the lock to the commit.
func (s *seed) swapFeed(ctx context.Context, from FeedSeed) error {
	if err := s.compare(ctx); err != nil {
		return err
	}
	// Always this order, feed_head first: readers lock alike.
	tables := strings.TrimSuffix(strings.TrimPrefix(lockReaders, "lock table "), " in access share mode")
	if _, err := s.tx.Exec(ctx, "set local lock_timeout = '30s'"); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, "lock table "+tables+" in access exclusive mode"); err != nil {
		return fmt.Errorf("locking the site's tables: %w", err)
	}
	if err := s.guard(ctx); err != nil {
		return err
	}
	if _, err := s.tx.Exec(ctx, "truncate "+tables); err != nil {
		return fmt.Errorf("emptying the site's tables: %w", err)
	}
	for _, t := range FeedTables {
		columns := strings.Join(t.columns, ", ")
		if _, err := s.tx.Exec(ctx, fmt.Sprintf("insert into %s (%s) select %s from seed_%s", t.Name, columns, columns, t.Name)); err != nil {
			return fmt.Errorf("filling %s: %w", t.Name, err)
		}
	}
	var write trip
	from.Head.queue(&write, from.PurgeBefore)
	from.Anchor.queue(&write)
	if err := write.send(ctx, s.tx); err != nil {
		return fmt.Errorf("writing the head: %w", err)
	}
	// What was kept beyond it led to the copy that is replaced: it comes again, if it is true.
	if _, err := s.tx.Exec(ctx, "delete from segment where epoch = $1 and (number > $2 or last > $3)", from.Anchor.Epoch, from.Anchor.Number, from.Snapshot.Position); err != nil {
		return fmt.Errorf("dropping segments after the snapshot: %w", err)
	}
	return keepSnapshot(ctx, s.tx, from.Snapshot)
}
