package sitedb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// FeedSeed is a verified snapshot with the source of its rows. Rows that differ from the signed
// counts and digests give ErrDiverged. The copy becomes visible only after the last step: no copy
// goes back to an older one.
type FeedSeed struct {
	Head        db.Head // of the snapshot
	PurgeBefore time.Time
	Anchor      Anchor
	Snapshot    db.Snapshot // kept for peers
	// Chunk returns the octets and the rows of chunk i of Chunks.
	Chunk  func(ctx context.Context, i int) ([]byte, []db.Change, error)
	Chunks int
	Open   db.OpenCorrections // nil: no correction is valid
	// Step returns step i of Steps, the verified segments that continue the snapshot in order. The
	// copy ends where they end.
	Step  func(i int) (FeedStep, error)
	Steps int
}

// columns returns those of the canonical bytes; the head is the signed one.
func (from FeedSeed) columns(table string) string {
	for _, t := range db.FeedTables {
		if t.Name == table {
			return strings.Join(t.Columns, ", ")
		}
	}
	return ""
}

func (from FeedSeed) String() string { return "the feed" }

func (from FeedSeed) begin(context.Context) error { return nil }

func (from FeedSeed) end(_ context.Context, err error) error { return err }

func (from FeedSeed) corrections() (db.OpenCorrections, string) { return from.Open, "" }

// load writes the snapshot's rows, and applies the steps to them. It counts the rows before they
// are in the database; ocspd counts the result before it answers from it.
func (from FeedSeed) load(ctx context.Context, s *seed) error {
	s.Head, s.purgeBefore = from.Head, from.PurgeBefore
	if err := from.loadChunks(ctx, s); err != nil {
		return err
	}
	staged := slices.Clone(db.FeedTables)
	for i, t := range staged {
		staged[i].Name = s.prefix + t.Name
		if s.prefix == "" || from.Steps == 0 {
			continue
		}
		sql := "alter table " + staged[i].Name + " add primary key (" + strings.Join(t.Columns[:t.Keys], ", ") + "); analyze " + staged[i].Name
		if _, err := s.tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("preparing the copy: %w", err)
		}
	}
	return from.advance(ctx, s, staged)
}

// advance stores the snapshot's place in the feed, and applies the later steps to its rows, in the
// copy's or in temporary tables. After each step the rows are counted, as signed.
func (from FeedSeed) advance(ctx context.Context, s *seed, tables []db.FeedTable) error {
	var place pg.Batch
	from.Anchor.queue(&place)
	from.dropBeyond(&place)
	if err := place.Send(ctx, s.tx); err != nil {
		return fmt.Errorf("keeping the snapshot's place: %w", err)
	}
	if err := dropSnapshots(ctx, s.tx); err != nil {
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
		if err == nil && step.news(s.Head) {
			err = step.rows(&write, s.Head, tables, old)
		}
		if err != nil {
			return err
		}
		if step.news(s.Head) && !step.Head.AsOf.Before(s.Head.AsOf) {
			s.Head, s.purgeBefore = step.Head, step.PurgeBefore
		}
		step.queue(&write)
		if err := write.Send(ctx, s.tx); err != nil {
			return fmt.Errorf("applying position %d: %w", step.Head.Position, pg.Plain(err))
		}
	}
	return nil
}

// settle makes the rows the copy of the signed head.
func (from FeedSeed) settle(ctx context.Context, s *seed) error {
	var write pg.Batch
	queueHead(s.Head, &write, s.purgeBefore)
	if err := write.Send(ctx, s.tx); err != nil {
		return fmt.Errorf("writing the head: %w", err)
	}
	return nil
}
