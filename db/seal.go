package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Segment is a sealed segment as it is stored: signed, immutable.
type Segment struct {
	Epoch, Number    int64
	First, Last      int64    // positions
	Hash             [32]byte // SHA-256 of Body
	Note             []byte   // the sealing checkpoint, signed
	NoteHash         [32]byte // SHA-256 of the note's text
	SnapshotRequired bool     // its changes are too many to be in Body
	Body             []byte   // nil where only the rest was asked for
}

// FeedNote is the newest signed checkpoint as it is stored.
type FeedNote struct {
	Epoch, Number, Position int64
	AsOf                    time.Time
	Note                    []byte
}

// Pending says how far the head is, and whether what lies between after and it
// must be sealed at once: a revocation, or a row that is no certificate.
type Pending struct {
	Epoch, Position int64
	AsOf            time.Time
	Urgent          bool
}

// Pending looks at the head of the master: one cheap statement, made to be asked many
// times a second. Whether a change is urgent, the triggers say (change_tx.urgent).
func (s *Publisher) Pending(ctx context.Context, after int64) (Pending, error) {
	var p Pending
	err := s.pool.readBatch(ctx, func(read *batch) error {
		read.row(func(row pgx.Row) error { return row.Scan(&p.Epoch, &p.Position, &p.AsOf, &p.Urgent) },
			`select epoch, position, as_of, position > $1 and exists (select from change_tx where last > $1 and urgent) from feed_head`, after)
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Pending{}, ErrNoHead
	}
	if err != nil {
		return Pending{}, fmt.Errorf("looking for changes: %w", plain(err))
	}
	p.AsOf = p.AsOf.UTC()
	return p, nil
}

// Sealing is one snapshot of the master in which changes are sealed or confirmed.
type Sealing struct {
	Head        Head
	PurgeBefore time.Time // zero: nothing is purged
	// Last is the newest segment of the head's epoch, without its body; its
	// Number is 0 before the first.
	Last Segment

	conn *pgx.Conn

	// What was read with the head, in one round trip, by a guess: the changes after a
	// position, at most readAhead of them.
	guess  int64
	recent []Change
}

// readAhead is how many changes are read with the head. More take longer than
// another round trip.
const readAhead = 2000

// The index is looked into per transaction (OFFSET 0): a join may read all changes
// that there ever were.
const selectChanges = `select position, deleted, table_name, content from (
	  select t.first - 1 + row_number() over (partition by t.xid order by b.id) as position, b.deleted, b.table_name, b.content
	  from (select xid, min(first) as first from change_tx where xid = any(array(select xid from change_tx where last > $1)) group by xid) t,
	  lateral (select b.id, b.deleted, b.table_name, b.content from change_body b where b.xid = t.xid offset 0) b) c
	where position > $1 order by position`

// Changes reads the changes after a position, up to the head, in order.
func (w *Sealing) Changes(ctx context.Context, after int64) ([]Change, error) {
	if after == w.guess && int64(len(w.recent)) == w.Head.Position-after {
		return w.recent, nil
	}
	rows, err := w.conn.Query(ctx, selectChanges, after)
	if err != nil {
		return nil, fmt.Errorf("reading changes: %w", plain(err))
	}
	return appendChanges(make([]Change, 0, min(w.Head.Position-after, 1<<18)), rows)
}

func appendChanges(changes []Change, rows pgx.Rows) ([]Change, error) {
	changes, err := pgx.AppendRows(changes, rows, func(row pgx.CollectableRow) (Change, error) {
		var c Change
		var table string
		err := row.Scan(&c.Position, &c.Deleted, &table, &c.Content)
		c.Table = codeOf(table)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading changes: %w", plain(err))
	}
	return changes, nil
}

// Sealed is what a Seal stores: a segment, perhaps, and the newest checkpoint.
type Sealed struct {
	Segment *Segment // nil: the last one is only confirmed
	Note    FeedNote
}

// Seal gives f one snapshot of the master, head, changes and last segment, and
// stores what f signs. after is where the last segment is believed to end: the
// changes after it are read at once. Two sealers at once: one is refused. It returns
// ErrNoHead before the master was initialised.
func (s *Publisher) Seal(ctx context.Context, after int64, f func(context.Context, *Sealing) (Sealed, error)) error {
	w := &Sealing{}
	err := s.pool.inTwoRoundTrips(ctx, "begin isolation level repeatable read", func(read *batch) error {
		*w = Sealing{guess: after}
		w.queue(read)
		read.rows(func(rows pgx.Rows) (err error) {
			w.recent, err = appendChanges(nil, rows)
			return err
		}, selectChanges+" limit $2", after, readAhead)
		return nil
	}, func(ctx context.Context, conn *pgx.Conn) (*batch, error) {
		w.conn = conn
		sealed, err := f(ctx, w)
		if err != nil {
			return nil, err
		}
		return sealed.queue(), nil
	})
	if err != nil {
		return fmt.Errorf("sealing: %w", plain(err))
	}
	return nil
}

// queueSegment reads the head and the last segment into w.
func (w *Sealing) queue(t *batch) {
	t.row(func(row pgx.Row) (err error) {
		w.Head, err = scanHead(row)
		return err
	}, selectHead+"feed_head")
	t.row(func(row pgx.Row) error {
		var at *time.Time
		if err := row.Scan(&at); err != nil && !errors.Is(err, pgx.ErrNoRows) { // without a head, that is told
			return fmt.Errorf("reading the head: %w", plain(err))
		}
		if at != nil {
			w.PurgeBefore = at.UTC()
		}
		return nil
	}, "select purge_before from feed_head")
	t.row(func(row pgx.Row) (err error) {
		if w.Last, err = scanSegment(row); errors.Is(err, ErrNotFound) {
			w.Last, err = Segment{Epoch: w.Head.Epoch}, nil
		}
		return err
	}, selectSegment+"null from segment where epoch = (select epoch from feed_head) order by number desc limit 1")
}

const selectSegment = "select epoch, number, first, last, hash, note, note_hash, snapshot_required, "

// ErrNotFound says that there is no such segment, checkpoint or snapshot here:
// not yet, or not any more.
var ErrNotFound = errors.New("it is not here")

func scanSegment(row pgx.Row) (Segment, error) {
	var g Segment
	var hash, noteHash []byte
	err := row.Scan(&g.Epoch, &g.Number, &g.First, &g.Last, &hash, &g.Note, &noteHash, &g.SnapshotRequired, &g.Body)
	if errors.Is(err, pgx.ErrNoRows) {
		return Segment{}, fmt.Errorf("reading a segment: %w", ErrNotFound)
	}
	if err != nil {
		return Segment{}, fmt.Errorf("reading a segment: %w", plain(err))
	}
	copy(g.Hash[:], hash)
	copy(g.NoteHash[:], noteHash)
	return g, nil
}

// queueSegment hands what was signed to the master's doors: nothing is replaced there but the
// newest checkpoint.
func (d *Sealed) queue() *batch {
	var t batch
	if g := d.Segment; g != nil {
		t.exec("select segment_append($1, $2, $3, $4, $5, $6, $7, $8, $9)", g.Epoch, g.Number, g.First, g.Last, g.Hash[:], g.Note, g.NoteHash[:], g.SnapshotRequired, g.Body)
	}
	n := d.Note
	t.exec("select checkpoint_put($1, $2, $3, $4, $5)", n.Epoch, n.Number, n.Position, n.AsOf, n.Note)
	return &t
}

// queueSegment stores a segment; unless says what to do about one that is there.
func queueSegment(g *Segment, t *batch, unless string) {
	t.exec("insert into segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"+unless,
		g.Epoch, g.Number, g.First, g.Last, g.Hash[:], g.Note, g.NoteHash[:], g.SnapshotRequired, g.Body)
}

// queueSegment makes a checkpoint the newest.
func queueNote(n FeedNote, t *batch) {
	t.exec(`insert into feed_checkpoint values (1, $1, $2, $3, $4, $5) on conflict (id) do update set
		epoch = excluded.epoch, number = excluded.number, position = excluded.position, as_of = excluded.as_of, note = excluded.note`,
		n.Epoch, n.Number, n.Position, n.AsOf, n.Note)
}

// FeedNote reads the newest checkpoint; ErrNotFound before the first.
func (s *Common) FeedNote(ctx context.Context) (FeedNote, error) {
	var n FeedNote
	err := s.pool.QueryRow(ctx, "select epoch, number, position, as_of, note from "+s.files+"feed_checkpoint").Scan(&n.Epoch, &n.Number, &n.Position, &n.AsOf, &n.Note)
	if errors.Is(err, pgx.ErrNoRows) {
		return FeedNote{}, fmt.Errorf("reading the checkpoint: %w", ErrNotFound)
	}
	if err != nil {
		return FeedNote{}, fmt.Errorf("reading the checkpoint: %w", plain(err))
	}
	n.AsOf = n.AsOf.UTC()
	return n, nil
}

// FeedSegment reads a segment with its body; ErrNotFound when it is not here.
func (s *Common) FeedSegment(ctx context.Context, epoch, number int64) (Segment, error) {
	return scanSegment(s.pool.QueryRow(ctx, selectSegment+"body from "+s.files+"segment where epoch = $1 and number = $2", epoch, number))
}

// FeedSeal is FeedSegment without the body.
func (s *Common) FeedSeal(ctx context.Context, epoch, number int64) (Segment, error) {
	return scanSegment(s.pool.QueryRow(ctx, selectSegment+"null from "+s.files+"segment where epoch = $1 and number = $2", epoch, number))
}
