package publisherdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// Pending says how far the head is, and whether a change after the given position must be sealed
// at once: a revocation, or a row that is no certificate.
type Pending struct {
	Epoch, Position int64
	AsOf            time.Time
	Urgent          bool
}

// Pending reads the head of the master with one cheap statement, for many calls a second. The
// triggers decide whether a change is urgent (change_tx.urgent).
func (s *DB) Pending(ctx context.Context, after int64) (Pending, error) {
	var p Pending
	err := s.pool.ReadBatch(ctx, func(read *pg.Batch) error {
		read.Row(func(row pgx.Row) error { return row.Scan(&p.Epoch, &p.Position, &p.AsOf, &p.Urgent) },
			`select epoch, position, as_of, position > $1 and exists (select from change_tx where last > $1 and urgent) from feed_head`, after)
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Pending{}, db.ErrNoHead
	}
	if err != nil {
		return Pending{}, fmt.Errorf("looking for changes: %w", pg.Plain(err))
	}
	p.AsOf = p.AsOf.UTC()
	return p, nil
}

// Sealing is one snapshot of the master in which changes are sealed or confirmed.
type Sealing struct {
	Head        db.Head
	PurgeBefore time.Time // zero: nothing is purged
	// Last is the newest segment of the head's epoch, without its body; its Number is 0 before the
	// first.
	Last db.Segment

	conn *pgx.Conn

	// The changes after a guessed position, at most readAhead of them, which were read with the
	// head in one round trip.
	guess  int64
	recent []db.Change
}

// readAhead is how many changes are read with the head. More would take longer than another round
// trip.
const readAhead = 2000

// OFFSET 0 makes one index lookup per transaction: a join may read the whole log of changes.
const selectChanges = `select position, deleted, table_name, content from (
	  select t.first - 1 + row_number() over (partition by t.xid order by b.id) as position, b.deleted, b.table_name, b.content
	  from (select xid, min(first) as first from change_tx where xid = any(array(select xid from change_tx where last > $1)) group by xid) t,
	  lateral (select b.id, b.deleted, b.table_name, b.content from change_body b where b.xid = t.xid offset 0) b) c
	where position > $1 order by position`

// Changes reads the changes after a position, up to the head, in order.
func (w *Sealing) Changes(ctx context.Context, after int64) ([]db.Change, error) {
	if after == w.guess && int64(len(w.recent)) == w.Head.Position-after {
		return w.recent, nil
	}
	rows, err := w.conn.Query(ctx, selectChanges, after)
	if err != nil {
		return nil, fmt.Errorf("reading changes: %w", pg.Plain(err))
	}
	return appendChanges(make([]db.Change, 0, min(w.Head.Position-after, 1<<18)), rows)
}

func appendChanges(changes []db.Change, rows pgx.Rows) ([]db.Change, error) {
	changes, err := pgx.AppendRows(changes, rows, func(row pgx.CollectableRow) (db.Change, error) {
		var c db.Change
		var table string
		err := row.Scan(&c.Position, &c.Deleted, &table, &c.Content)
		c.Table = db.CodeOf(table)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading changes: %w", pg.Plain(err))
	}
	return changes, nil
}

// Sealed is what Seal stores: optionally a segment, and the newest checkpoint.
type Sealed struct {
	Segment *db.Segment // nil: the last one is only confirmed
	Note    db.FeedNote
}

// Seal gives f one snapshot of the master, head, changes and last segment, and stores what f
// signs. after is the assumed end of the last segment: the changes after it are read at once. Of
// two sealers at the same time one is refused. Seal returns ErrNoHead before the master was
// initialised.
func (s *DB) Seal(ctx context.Context, after int64, f func(context.Context, *Sealing) (Sealed, error)) error {
	w := &Sealing{}
	err := s.pool.InTwoRoundTrips(ctx, "begin isolation level repeatable read", func(read *pg.Batch) error {
		*w = Sealing{guess: after}
		w.queue(read)
		read.Rows(func(rows pgx.Rows) (err error) {
			w.recent, err = appendChanges(nil, rows)
			return err
		}, selectChanges+" limit $2", after, readAhead)
		return nil
	}, func(ctx context.Context, conn *pgx.Conn) (*pg.Batch, error) {
		w.conn = conn
		sealed, err := f(ctx, w)
		if err != nil {
			return nil, err
		}
		return sealed.queue(), nil
	})
	if err != nil {
		return fmt.Errorf("sealing: %w", pg.Plain(err))
	}
	return nil
}

// queue reads the head and the last segment into w.
func (w *Sealing) queue(t *pg.Batch) {
	t.Row(func(row pgx.Row) (err error) {
		w.Head, err = tables.ScanHead(row)
		return err
	}, tables.SelectHead+"feed_head")
	t.Row(func(row pgx.Row) error {
		var at *time.Time
		if err := row.Scan(&at); err != nil && !errors.Is(err, pgx.ErrNoRows) { // a missing head is reported elsewhere
			return fmt.Errorf("reading the head: %w", pg.Plain(err))
		}
		if at != nil {
			w.PurgeBefore = at.UTC()
		}
		return nil
	}, "select purge_before from feed_head")
	t.Row(func(row pgx.Row) (err error) {
		if w.Last, err = tables.ScanSegment(row); errors.Is(err, db.ErrNotFound) {
			w.Last, err = db.Segment{Epoch: w.Head.Epoch}, nil
		}
		return err
	}, tables.SelectSegment+"null from segment where epoch = (select epoch from feed_head) order by number desc limit 1")
}

// queue passes the signed data to the master's functions: they replace only the newest checkpoint.
func (d *Sealed) queue() *pg.Batch {
	var t pg.Batch
	if g := d.Segment; g != nil {
		t.Exec("select segment_append($1, $2, $3, $4, $5, $6, $7, $8, $9)", g.Epoch, g.Number, g.First, g.Last, g.Hash[:], g.Note, g.NoteHash[:], g.SnapshotRequired, g.Body)
	}
	n := d.Note
	t.Exec("select checkpoint_put($1, $2, $3, $4, $5)", n.Epoch, n.Number, n.Position, n.AsOf, n.Note)
	return &t
}
