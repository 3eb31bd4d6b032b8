package sitedb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// FeedSeed is a verified snapshot, and where its rows come from.
type FeedSeed struct {
	Head        db.Head // of the snapshot
	PurgeBefore time.Time
	Anchor      Anchor
	Snapshot    db.Snapshot // kept, to be relayed
	// Chunk returns the octets and the rows of chunk i of Chunks.
	Chunk  func(ctx context.Context, i int) ([]byte, []db.Change, error)
	Chunks int
	Open   db.OpenCorrections // nil: no correction is believed
	// Step returns step i of Steps, verified segments that lead on from the snapshot, one
	// after the other. The copy is where they lead to.
	Step  func(i int) (FeedStep, error)
	Steps int
}

// SeedFromFeed replaces the site's copy by a snapshot's rows, as the segments since have
// changed them, in one transaction: until it commits, readers see the old rows. So no copy
// goes back to an older one. What does not have the signed counts
// and digests is ErrDiverged, what would take back a permanent revocation that an
// intact copy knows ErrRevocationsLost; both change nothing.
//
// The rows are counted here, on their way: what the database then holds ocspd counts
// before it answers from it.
func (s *DB) SeedFromFeed(ctx context.Context, from FeedSeed) (Seeded, error) {
	var seeded Seeded
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		seed := &seed{tx: tx, head: from.Head, purgeBefore: from.PurgeBefore, open: from.Open}
		empty, err := seed.empty(ctx)
		if err != nil {
			return err
		}
		if empty {
			err = seed.fill(ctx, from)
		} else {
			err = seed.replace(ctx, from)
		}
		seeded = seed.Seeded
		seeded.Head = seed.head
		return err
	})
	if err != nil {
		return Seeded{}, fmt.Errorf("seeding from the feed: %w", pg.Plain(err))
	}
	return seeded, nil
}

// empty says whether this site has no copy at all and remembers nothing, and keeps other writers out if so.
func (s *seed) empty(ctx context.Context) (bool, error) {
	look := "select not exists (select from feed_head)"
	for _, t := range db.FeedTables {
		look += " and not exists (select from " + t.Name + ")"
	}
	look += " and not exists (select from site_revoked)"
	var empty bool
	err := s.tx.QueryRow(ctx, look).Scan(&empty)
	if err == nil && empty {
		if _, err = s.tx.Exec(ctx, "lock table "+feedTableNames+" in exclusive mode"); err == nil {
			err = s.tx.QueryRow(ctx, look).Scan(&empty)
		}
	}
	if err != nil {
		return false, fmt.Errorf("looking for an earlier copy: %w", err)
	}
	return empty, nil
}

// feedTableNames are always locked in this order, feed_head first: readers lock alike.
var feedTableNames = strings.TrimSuffix(strings.TrimPrefix(tables.LockReaders, "lock table "), " in access share mode")

// fill writes the rows into the empty tables: nobody sees them before the commit, and
// nobody waits.
func (s *seed) fill(ctx context.Context, from FeedSeed) error {
	if err := s.load(ctx, from, ""); err != nil {
		return err
	}
	if err := s.advance(ctx, from, db.FeedTables); err != nil {
		return err
	}
	return s.finish(ctx)
}

// replace copies the rows into temporary tables, for which nobody waits, and then puts
// them in the place of the old ones.
func (s *seed) replace(ctx context.Context, from FeedSeed) error {
	for _, t := range db.FeedTables {
		sql := "create temp table seed_" + t.Name + " (like public." + t.Name + " including defaults) on commit drop"
		if t.Code == db.CertificateTable {
			sql += "; alter table seed_certificate drop column site_seq" // given when the row becomes visible
		}
		if _, err := s.tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("preparing the copy: %w", err)
		}
	}
	if err := s.load(ctx, from, "seed_"); err != nil {
		return err
	}
	staged := slices.Clone(db.FeedTables)
	for i, t := range staged {
		staged[i].Name = "seed_" + t.Name
		if from.Steps == 0 {
			continue
		}
		if _, err := s.tx.Exec(ctx, "alter table seed_"+t.Name+" add primary key ("+strings.Join(t.Columns[:t.Keys], ", ")+")"); err != nil {
			return fmt.Errorf("preparing the copy: %w", err)
		}
	}
	if _, err := s.tx.Exec(ctx, "analyze seed_certificate"); err != nil {
		return fmt.Errorf("preparing the copy: %w", err)
	}
	if err := s.advance(ctx, from, staged); err != nil {
		return err
	}
	swap, cancel := context.WithTimeout(ctx, swapBase+time.Duration(s.head.Certificates.Count)*swapPerRow)
	defer cancel()
	return s.swapFeed(swap)
}

// advance applies the steps since the snapshot to its rows, wherever they lie, and counts
// them at each, as signed.
func (s *seed) advance(ctx context.Context, from FeedSeed, tables []db.FeedTable) error {
	if err := s.begin(ctx, from); err != nil {
		return err
	}
	for i := range from.Steps {
		step, err := from.Step(i)
		if err != nil {
			return err
		}
		var read, write pg.Batch
		old, err := step.current(&read, tables)
		if err == nil {
			err = read.Send(ctx, s.tx)
		}
		if err == nil && step.news(s.head) {
			err = step.rows(&write, s.head, tables, old)
		}
		if err != nil {
			return err
		}
		if step.news(s.head) && !step.Head.AsOf.Before(s.head.AsOf) {
			s.head, s.purgeBefore = step.Head, step.PurgeBefore
		}
		step.queue(&write)
		if err := write.Send(ctx, s.tx); err != nil {
			return fmt.Errorf("applying position %d: %w", step.Head.Position, pg.Plain(err))
		}
	}
	return nil
}

// swapFeed puts the staged rows in the place of the old ones. Readers wait from
// the lock to the commit.
func (s *seed) swapFeed(ctx context.Context) error {
	if err := s.clear(ctx); err != nil {
		return err
	}
	for _, t := range db.FeedTables {
		columns := strings.Join(t.Columns, ", ")
		if _, err := s.tx.Exec(ctx, fmt.Sprintf("insert into %s (%s) select %s from seed_%s", t.Name, columns, columns, t.Name)); err != nil {
			return fmt.Errorf("filling %s: %w", t.Name, err)
		}
	}
	return s.finish(ctx)
}

// begin keeps the snapshot's place in the feed, from which steps lead on.
func (s *seed) begin(ctx context.Context, from FeedSeed) error {
	var write pg.Batch
	from.Anchor.queue(&write)
	from.dropBeyond(&write)
	if err := write.Send(ctx, s.tx); err != nil {
		return fmt.Errorf("keeping the snapshot's place: %w", err)
	}
	return dropSnapshots(ctx, s.tx)
}

// finish makes the rows the copy of the signed head.
func (s *seed) finish(ctx context.Context) error {
	var write pg.Batch
	queueHead(s.head, &write, s.purgeBefore)
	if err := write.Send(ctx, s.tx); err != nil {
		return fmt.Errorf("writing the head: %w", err)
	}
	if err := s.tx.QueryRow(ctx, "select last_value from site_seq").Scan(&s.SiteSeq); err != nil {
		return fmt.Errorf("reading the last number of a change here: %w", err)
	}
	return nil
}
