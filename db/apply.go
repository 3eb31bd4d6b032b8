package db

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Errors of a site that follows the feed.
var (
	// ErrDiverged says that the copy here is not what the signed counts and
	// digests say: it must be seeded anew.
	ErrDiverged = errors.New("the copy differs from what was signed")
	// ErrGap says that a segment does not continue the copy.
	ErrGap = errors.New("changes are missing in between")
)

// Anchor is the seal that a site's copy stands on.
type Anchor struct {
	Epoch, Number  int64
	Hash, NoteHash [32]byte // of the segment's body; of the sealing checkpoint's text
}

// FeedCopy is what a site has of the feed.
type FeedCopy struct {
	Head     Head
	Seeded   bool // there is a head
	Anchor   Anchor
	Anchored bool // the copy came by the feed
}

// FeedCopy reads how far this site is.
func (s *Store) FeedCopy(ctx context.Context) (FeedCopy, error) {
	var c FeedCopy
	var err error
	c.Head, err = s.Head(ctx)
	c.Seeded = err == nil
	if err != nil && !errors.Is(err, ErrNoHead) {
		return FeedCopy{}, err
	}
	var hash, noteHash []byte
	err = s.pool.QueryRow(ctx, "select epoch, number, hash, note_hash from feed_anchor").Scan(&c.Anchor.Epoch, &c.Anchor.Number, &hash, &noteHash)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return FeedCopy{}, fmt.Errorf("reading the feed's anchor: %w", plain(err))
	}
	c.Anchored = err == nil
	copy(c.Anchor.Hash[:], hash)
	copy(c.Anchor.NoteHash[:], noteHash)
	return c, nil
}

// FeedStep is one verified step of the feed: a segment with its seal, or only a
// later checkpoint of the segment that the copy stands on.
type FeedStep struct {
	Segment     *Segment // nil: a confirmation
	Changes     []Change // the segment's
	Note        FeedNote
	Head        Head // that the copy has then
	PurgeBefore time.Time
}

// Apply takes a step in one transaction: rows, horizon, digests, files. Doing it
// twice does no harm. ErrGap, ErrDiverged and ErrRevocationsLost change nothing.
func (s *Store) Apply(ctx context.Context, step FeedStep) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var position int64
		err := tx.QueryRow(ctx, "select position from feed_head for update").Scan(&position)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: there is no copy yet", ErrGap)
		}
		if err != nil {
			return fmt.Errorf("locking the head: %w", err)
		}
		head, err := readHead(ctx, tx)
		if err != nil {
			return err
		}
		g := step.Segment
		switch {
		case head.Epoch != step.Head.Epoch:
			return fmt.Errorf("%w: the copy is of epoch %d, this of %d", ErrGap, head.Epoch, step.Head.Epoch)
		case g != nil && (g.Leap || g.First > head.Position+1):
			return fmt.Errorf("%w: the copy is at position %d, the segment begins at %d", ErrGap, head.Position, g.First)
		case g == nil && head.Position != step.Head.Position:
			return fmt.Errorf("%w: the copy is at position %d, the checkpoint at %d", ErrGap, head.Position, step.Head.Position)
		}
		if g != nil && g.Last < head.Position {
			return step.store(ctx, tx) // it was applied before, or the rows came another way
		}
		for _, t := range FeedTables {
			if err := t.apply(ctx, tx, head, step); err != nil {
				return err
			}
		}
		if !step.Head.AsOf.Before(head.AsOf) { // a snapshot may have confirmed more already
			if err := writeHead(ctx, tx, step.Head, step.PurgeBefore); err != nil {
				return err
			}
		}
		return step.store(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("applying position %d: %w", step.Head.Position, plain(err))
	}
	return nil
}

// apply writes what the step changes in one table, and counts it.
func (t FeedTable) apply(ctx context.Context, tx pgx.Tx, head Head, step FeedStep) error {
	states := map[string]Change{} // the last of each key counts
	for _, c := range step.Changes {
		if c.Table != t.Code || c.Position <= head.Position {
			continue
		}
		key, err := t.keyOf(c.Content)
		if err != nil {
			return err
		}
		states[key] = c
	}
	tally := *t.Tally(&head)
	if len(states) > 0 {
		old, err := t.current(ctx, tx, states)
		if err != nil {
			return err
		}
		for key, content := range old {
			if err := step.keepsRevocation(ctx, tx, t, content, states[key]); err != nil {
				return err
			}
			tally.Remove(content)
		}
		for _, c := range states {
			if !c.Deleted {
				tally.Add(c.Content)
			}
		}
		if err := t.write(ctx, tx, states); err != nil {
			return fmt.Errorf("writing %s: %w", t.Name, err)
		}
	}
	if want := *t.Tally(&step.Head); tally != want {
		return fmt.Errorf("%w: %s has %d rows with digest %x, signed are %d with %x", ErrDiverged, t.Name, tally.Count, tally.Digest, want.Count, want.Digest)
	}
	return nil
}

// current reads the rows that are about to change, by key.
func (t FeedTable) current(ctx context.Context, tx pgx.Tx, states map[string]Change) (map[string][]byte, error) {
	sql, args := "select "+t.rows+" from "+t.Name+" t", []any{}
	if t.Code == CertificateTable { // the others are few
		issuers, serials := make([]int32, 0, len(states)), make([][]byte, 0, len(states))
		for key := range states {
			issuer, serial, err := ParseCertificateKey([]byte(key))
			if err != nil {
				return nil, err
			}
			issuers, serials = append(issuers, int32(issuer)), append(serials, serial)
		}
		sql += " join unnest($1::int[], $2::bytea[]) as k(i, s) on t.issuer_id = k.i and t.serial = k.s"
		args = []any{issuers, serials}
	}
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Name, err)
	}
	old := map[string][]byte{}
	contents, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", t.Name, err)
	}
	for _, content := range contents {
		key, err := t.keyOf(content)
		if err != nil {
			return nil, err
		}
		if _, changes := states[key]; changes {
			old[key] = content
		}
	}
	return old, nil
}

// keepsRevocation refuses to take a permanent revocation back before the
// certificate's end, whoever signed that, unless a correction of that very
// revocation is here or comes with the step.
func (step FeedStep) keepsRevocation(ctx context.Context, tx pgx.Tx, t FeedTable, old []byte, c Change) error {
	if t.Code != CertificateTable {
		return nil
	}
	issuer, serial, was, err := ParseCertificate(old)
	if err != nil || !was.Permanent() || was.NotAfter.Before(time.Now()) {
		return err
	}
	if !c.Deleted {
		_, _, is, err := ParseCertificate(c.Content)
		if err != nil || is.Permanent() {
			return err
		}
	}
	corrected, err := step.corrects(ctx, tx, issuer, serial, was.RevokedAt)
	if err != nil || corrected {
		return err
	}
	return fmt.Errorf("%w: %d/%s at position %d", ErrRevocationsLost, issuer, serial, c.Position)
}

// corrects says whether one revocation was taken back, by a change of the step or
// a row that is here.
func (step FeedStep) corrects(ctx context.Context, tx pgx.Tx, issuer IssuerID, serial Serial, revokedAt time.Time) (bool, error) {
	for _, c := range step.Changes {
		if c.Table != CorrectionTable || c.Deleted {
			continue
		}
		k, err := ParseCorrection(c.Content)
		if err != nil {
			return false, err
		}
		if k.IssuerID == issuer && bytes.Equal(k.Serial, serial) && k.RevokedAt.Equal(revokedAt) {
			return true, nil
		}
	}
	var there bool
	err := tx.QueryRow(ctx, "select exists (select from correction where (issuer_id, serial, revoked_at) = ($1, $2, $3))",
		int32(issuer), []byte(serial), revokedAt).Scan(&there)
	if err != nil {
		return false, fmt.Errorf("looking for a correction: %w", err)
	}
	return there, nil
}

func (t FeedTable) queue(batch *pgx.Batch, key string, c Change) error {
	if c.Deleted {
		values, err := t.keyValues([]byte(key))
		if err != nil {
			return err
		}
		batch.Queue("delete from "+t.Name+" where ("+strings.Join(t.columns[:t.keys], ", ")+") = ("+marks(t.keys)+")", values...)
		return nil
	}
	values, err := t.values(c.Content)
	if err != nil {
		return err
	}
	var sets []string
	for _, column := range t.columns[t.keys:] {
		sets = append(sets, column+" = excluded."+column)
	}
	action := "nothing" // a row that is all key is here already
	if len(sets) > 0 {
		action = "update set " + strings.Join(sets, ", ")
	}
	batch.Queue(fmt.Sprintf("insert into %s (%s) values (%s) on conflict (%s) do %s", t.Name, strings.Join(t.columns, ", "),
		marks(len(t.columns)), strings.Join(t.columns[:t.keys], ", "), action), values...)
	return nil
}

func marks(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", i+1)
	}
	return strings.Join(list, ", ")
}

// writeHead makes the signed head the copy's.
func writeHead(ctx context.Context, tx pgx.Tx, h Head, purgeBefore time.Time) error {
	columns := []string{"id", "epoch", "position", "as_of", "audit_count", "audit_hash", "purge_before"}
	values := []any{1, h.Epoch, h.Position, h.AsOf, h.AuditCount, h.AuditHash, nil}
	if !purgeBefore.IsZero() {
		values[6] = purgeBefore
	}
	for _, t := range FeedTables {
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
	_, err := tx.Exec(ctx, fmt.Sprintf("insert into feed_head (%s) values (%s) on conflict (id) do update set %s",
		strings.Join(columns, ", "), strings.Join(places, ", "), strings.Join(sets, ", ")), values...)
	if err != nil {
		return fmt.Errorf("writing the head: %w", err)
	}
	return nil
}

// store keeps the step's files, to go on from and to relay.
func (step FeedStep) store(ctx context.Context, tx pgx.Tx) error {
	sealed := Sealed{Note: step.Note}
	if g := step.Segment; g != nil {
		var there bool
		if err := tx.QueryRow(ctx, "select exists (select from segment where epoch = $1 and number = $2)", g.Epoch, g.Number).Scan(&there); err != nil {
			return fmt.Errorf("storing segment %d: %w", g.Number, err)
		}
		if !there {
			sealed.Segment = g
		}
		if err := writeAnchor(ctx, tx, Anchor{g.Epoch, g.Number, g.Hash, g.NoteHash}); err != nil {
			return err
		}
	}
	return sealed.store(ctx, tx)
}

func writeAnchor(ctx context.Context, tx pgx.Tx, a Anchor) error {
	_, err := tx.Exec(ctx, `insert into feed_anchor values (1, $1, $2, $3, $4) on conflict (id) do update set
		epoch = excluded.epoch, number = excluded.number, hash = excluded.hash, note_hash = excluded.note_hash`, a.Epoch, a.Number, a.Hash[:], a.NoteHash[:])
	if err != nil {
		return fmt.Errorf("storing the feed's anchor: %w", err)
	}
	return nil
}

// keptForks bounds the evidence: the first contradictions tell the story, and a
// source that invents more shall not fill the disk (16 KiB each).
const keptForks = 64

// KeepFork keeps two signed statements that contradict each other. Beyond 64 pairs
// it keeps no more.
func (s *Store) KeepFork(ctx context.Context, source, why string, ours, theirs []byte) error {
	_, err := s.pool.Exec(ctx, `insert into feed_fork (source, why, ours, theirs) select $1, $2, $3, $4
		where (select count(*) from feed_fork) < $5 on conflict do nothing`, source, why, ours, theirs, keptForks)
	if err != nil {
		return fmt.Errorf("keeping evidence: %w", plain(err))
	}
	return nil
}

// Forks counts the contradictions kept.
func (s *Store) Forks(ctx context.Context) (int64, error) {
	var n int64
	if err := s.pool.QueryRow(ctx, "select count(*) from feed_fork").Scan(&n); err != nil {
		return 0, fmt.Errorf("counting evidence: %w", plain(err))
	}
	return n, nil
}
