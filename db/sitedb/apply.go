package sitedb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// Errors of a site that follows the feed.
var (
	// ErrDiverged says that the copy here differs from the signed counts and digests: it must be
	// seeded again.
	ErrDiverged = errors.New("the copy differs from what was signed")
	// ErrGap says that a segment does not continue the copy.
	ErrGap = errors.New("changes are missing in between")
)

// Anchor is the last seal that a site's copy includes.
type Anchor struct {
	Epoch, Number  int64
	Hash, NoteHash [32]byte // of the segment's body; of the sealing checkpoint's text
}

// FeedCopy is what a site has of the feed.
type FeedCopy struct {
	Head     db.Head
	Seeded   bool // the copy has a head
	Anchor   Anchor
	Anchored bool // the copy came by the feed
	// Took is how many numbers of site_seq a step took, as Apply returns it: any further numbers
	// are other writers'.
	Took int64
}

// FeedCopy reads the position of this site's copy.
func (s *DB) FeedCopy(ctx context.Context) (FeedCopy, error) {
	var c FeedCopy
	err := s.pool.ReadBatch(ctx, func(read *pg.Batch) error {
		c.queue(read)
		return nil
	})
	if err != nil {
		return FeedCopy{}, fmt.Errorf("reading the copy: %w", pg.Plain(err))
	}
	return c, nil
}

// SiteSeq returns the last number that a change of a certificate at this site took, from any
// writer.
func (s *DB) SiteSeq(ctx context.Context) (number int64, err error) {
	if err := s.pool.QueryRow(ctx, "select last_value from site_seq").Scan(&number); err != nil {
		return 0, fmt.Errorf("reading the last number of a change here: %w", pg.Plain(err))
	}
	return number, nil
}

// queue reads the site's position into c.
func (c *FeedCopy) queue(read *pg.Batch) {
	read.Row(func(row pgx.Row) (err error) {
		c.Head, err = tables.ScanHead(row)
		c.Seeded = err == nil
		if errors.Is(err, db.ErrNoHead) {
			err = nil
		}
		return err
	}, tables.SelectHead+"feed_head")
	read.Row(func(row pgx.Row) error {
		var hash, noteHash []byte
		err := row.Scan(&c.Anchor.Epoch, &c.Anchor.Number, &hash, &noteHash)
		c.Anchored = err == nil
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("reading the feed's anchor: %w", pg.Plain(err))
		}
		copy(c.Anchor.Hash[:], hash)
		copy(c.Anchor.NoteHash[:], noteHash)
		return nil
	}, "select epoch, number, hash, note_hash from feed_anchor")
}

// FeedStep is one verified step of the feed: a segment with its seal, or only a later checkpoint
// of the copy's segment.
type FeedStep struct {
	Segment     *db.Segment // nil: a confirmation
	Changes     []db.Change // the segment's
	Note        db.FeedNote
	Head        db.Head // the copy's head after the step
	PurgeBefore time.Time
	Open        db.OpenCorrections // nil: no correction is valid
}

// Apply applies a step in one transaction: rows, horizon, digests, files. To repeat it does no
// harm. It returns the new position of the site. ErrGap, ErrDiverged and ErrRevocationsLost change
// nothing.
func (s *DB) Apply(ctx context.Context, step FeedStep) (FeedCopy, error) {
	var have FeedCopy
	var old []map[string][]byte
	err := s.pool.InTwoRoundTrips(ctx, "begin", func(read *pg.Batch) (err error) {
		read.Exec("select from feed_head for update")
		have.queue(read)
		old, err = step.current(read, db.FeedTables)
		return err
	}, func(ctx context.Context, conn *pgx.Conn) (_ *pg.Batch, err error) {
		if err := step.continues(have); err != nil {
			return nil, err
		}
		var write pg.Batch
		head, g := have.Head, step.Segment
		if step.news(head) {
			if err := step.adopt(ctx, conn, head, old); err != nil {
				return nil, err
			}
			if err := step.rows(&write, head, db.FeedTables, old); err != nil {
				return nil, err
			}
			if have.Took, err = step.took(head, old); err != nil {
				return nil, err
			}
			if !step.Head.AsOf.Before(head.AsOf) { // a snapshot may have confirmed more already
				queueHead(step.Head, &write, step.PurgeBefore)
				have.Head = step.Head
			}
		}
		if g != nil {
			have.Anchor, have.Anchored = Anchor{g.Epoch, g.Number, g.Hash, g.NoteHash}, true
		}
		step.queue(&write)
		return &write, nil
	})
	if err != nil {
		return FeedCopy{}, fmt.Errorf("applying position %d: %w", step.Head.Position, pg.Plain(err))
	}
	return have, nil
}

// took returns how many numbers of site_seq the step's rows take: a new or deleted row takes one;
// a changed row takes two, since INSERT takes one before it finds the row.
func (step FeedStep) took(head db.Head, old []map[string][]byte) (n int64, err error) {
	for i, t := range db.FeedTables {
		if t.Code != db.CertificateTable {
			continue
		}
		states, err := statesOf(t, step.Changes, head.Position)
		if err != nil {
			return 0, err
		}
		for key, c := range states {
			_, here := old[i][key]
			switch {
			case here && !c.Deleted:
				n += 2
			case here || !c.Deleted:
				n++
			}
		}
	}
	return n, nil
}

// news says whether the step has changes that the rows of head lack: otherwise it was applied
// before, or they came with a snapshot that is newer than the last seal of its time.
func (step FeedStep) news(head db.Head) bool {
	return step.Segment == nil || step.Segment.Last >= head.Position
}

// continues says why the step does not continue the copy.
func (step FeedStep) continues(have FeedCopy) error {
	g, head := step.Segment, have.Head
	switch {
	case !have.Seeded:
		return fmt.Errorf("%w: there is no copy yet", ErrGap)
	case head.Epoch != step.Head.Epoch:
		return fmt.Errorf("%w: the copy is of epoch %d, this of %d", ErrGap, head.Epoch, step.Head.Epoch)
	case g != nil && (g.SnapshotRequired || g.First > head.Position+1):
		return fmt.Errorf("%w: the copy is at position %d, the segment begins at %d", ErrGap, head.Position, g.First)
	case g == nil && head.Position != step.Head.Position:
		return fmt.Errorf("%w: the copy is at position %d, the checkpoint at %d", ErrGap, head.Position, step.Head.Position)
	}
	return nil
}

// rows queues the step's changes of the tables' rows, and counts them.
func (step FeedStep) rows(write *pg.Batch, head db.Head, tables []db.FeedTable, old []map[string][]byte) error {
	for i, t := range tables {
		if err := applyTable(t, write, head, step, old[i]); err != nil {
			return err
		}
	}
	return nil
}

// current queues the reading of the rows that will change, of each table by key.
func (step FeedStep) current(read *pg.Batch, tables []db.FeedTable) ([]map[string][]byte, error) {
	old := make([]map[string][]byte, len(tables))
	for i, t := range tables {
		states, err := statesOf(t, step.Changes, 0)
		if err == nil && len(states) > 0 {
			old[i] = map[string][]byte{}
			err = readCurrent(t, read, states, old[i])
		}
		if err != nil {
			return nil, err
		}
	}
	return old, nil
}

// statesOf returns the states of this table's rows, by key, after the changes after a position:
// the last change of each key counts.
func statesOf(t db.FeedTable, changes []db.Change, after int64) (map[string]db.Change, error) {
	states := map[string]db.Change{}
	for _, c := range changes {
		if c.Table != t.Code || c.Position <= after {
			continue
		}
		key, err := t.KeyOf(c.Content)
		if err != nil {
			return nil, err
		}
		states[key] = c
	}
	return states, nil
}

// applyTable queues what the step changes in one table, and counts it. It ignores old rows of keys
// that do not change after the head.
func applyTable(t db.FeedTable, write *pg.Batch, head db.Head, step FeedStep, old map[string][]byte) error {
	states, err := statesOf(t, step.Changes, head.Position)
	if err != nil {
		return err
	}
	tally := *t.Tally(&head)
	for key, content := range old {
		if _, changes := states[key]; changes {
			tally.Remove(content)
		}
	}
	for _, c := range states {
		if !c.Deleted {
			tally.Add(c.Content)
		}
	}
	if want := *t.Tally(&step.Head); tally != want {
		return fmt.Errorf("%w: %s has %d rows with digest %x, signed are %d with %x", ErrDiverged, t.Name, tally.Count, tally.Digest, want.Count, want.Digest)
	}
	return writeTable(t, write, states)
}

// readCurrent queues the reading of the rows that will change, into old by key.
func readCurrent(t db.FeedTable, read *pg.Batch, states map[string]db.Change, old map[string][]byte) error {
	sql, args := "select "+t.Rows+" from "+t.Name+" t", []any{}
	if t.Code == db.CertificateTable { // the other tables are small
		issuers, serials := make([]int32, 0, len(states)), make([][]byte, 0, len(states))
		for key := range states {
			issuer, serial, err := db.ParseCertificateKey([]byte(key))
			if err != nil {
				return err
			}
			issuers, serials = append(issuers, int32(issuer)), append(serials, serial)
		}
		// OFFSET 0: one index lookup per key. A join may read the whole table.
		sql = "select c.* from unnest($1::int[], $2::bytea[]) as k(i, s), lateral (" + sql + " where t.issuer_id = k.i and t.serial = k.s offset 0) c"
		args = []any{issuers, serials}
	}
	read.Rows(func(rows pgx.Rows) error {
		contents, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return fmt.Errorf("reading %s: %w", t.Name, err)
		}
		for _, content := range contents {
			key, err := t.KeyOf(content)
			if err != nil {
				return err
			}
			if _, changes := states[key]; changes {
				old[key] = content
			}
		}
		return nil
	}, sql, args...)
	return nil
}

func queueRow(t db.FeedTable, write *pg.Batch, key string, c db.Change) error {
	if c.Deleted {
		values, err := t.KeyValues([]byte(key))
		if err != nil {
			return err
		}
		write.Exec("delete from "+t.Name+" where ("+strings.Join(t.Columns[:t.Keys], ", ")+") = ("+marks(t.Keys)+")", values...)
		return nil
	}
	values, err := t.Values(c.Content)
	if err != nil {
		return err
	}
	var sets []string
	for _, column := range t.Columns[t.Keys:] {
		sets = append(sets, column+" = excluded."+column)
	}
	action := "nothing" // a row that is all key is here already
	if len(sets) > 0 {
		action = "update set " + strings.Join(sets, ", ")
	}
	write.Exec(fmt.Sprintf("insert into %s (%s) values (%s) on conflict (%s) do %s", t.Name, strings.Join(t.Columns, ", "),
		marks(len(t.Columns)), strings.Join(t.Columns[:t.Keys], ", "), action), values...)
	return nil
}

func marks(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(list, ", ")
}

// queueHead sets the signed head as the copy's.
func queueHead(h db.Head, write *pg.Batch, purgeBefore time.Time) {
	columns := []string{"id", "epoch", "position", "as_of", "audit_count", "audit_hash", "purge_before"}
	values := []any{1, h.Epoch, h.Position, h.AsOf, h.AuditCount, h.AuditHash, nil}
	if !purgeBefore.IsZero() {
		values[6] = purgeBefore
	}
	for _, t := range db.FeedTables {
		columns = append(columns, t.Name+"_count", t.Name+"_digest")
		values = append(values, t.Tally(&h).Count, fmt.Sprint(uint64(t.Tally(&h).Digest)))
	}
	var sets, places []string
	for i, column := range columns {
		place := fmt.Sprintf("$%d", i+1)
		if strings.HasSuffix(column, "_digest") {
			place += "::text::numeric"
		}
		places = append(places, place)
		sets = append(sets, column+" = excluded."+column)
	}
	write.Exec(fmt.Sprintf("insert into feed_head (%s) values (%s) on conflict (id) do update set %s",
		strings.Join(columns, ", "), strings.Join(places, ", "), strings.Join(sets, ", ")), values...)
}

// queue stores the step's files, to continue from and to relay.
func (step FeedStep) queue(write *pg.Batch) {
	if g := step.Segment; g != nil {
		queueSegment(g, write, " on conflict (epoch, number) do nothing")
		Anchor{g.Epoch, g.Number, g.Hash, g.NoteHash}.queue(write)
	}
	queueNote(step.Note, write)
}

// queue stores a seal as the copy's anchor.
func (a Anchor) queue(write *pg.Batch) {
	write.Exec(`insert into feed_anchor values (1, $1, $2, $3, $4) on conflict (id) do update set
		epoch = excluded.epoch, number = excluded.number, hash = excluded.hash, note_hash = excluded.note_hash`, a.Epoch, a.Number, a.Hash[:], a.NoteHash[:])
}

// queueSegment stores a segment; unless says what to do if there is one.
func queueSegment(g *db.Segment, t *pg.Batch, unless string) {
	t.Exec("insert into segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"+unless,
		g.Epoch, g.Number, g.First, g.Last, g.Hash[:], g.Note, g.NoteHash[:], g.SnapshotRequired, g.Body)
}

// queueNote stores a checkpoint as the newest.
func queueNote(n db.FeedNote, t *pg.Batch) {
	t.Exec(`insert into feed_checkpoint values (1, $1, $2, $3, $4, $5) on conflict (id) do update set
		epoch = excluded.epoch, number = excluded.number, position = excluded.position, as_of = excluded.as_of, note = excluded.note`,
		n.Epoch, n.Number, n.Position, n.AsOf, n.Note)
}
