package tables

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// Files returns the site's store for the signed files (FeedNote, FeedSegment, FeedSeal,
// FeedKeySets) that subscription ocspfleet_files brought from the master. They are not verified.
func (s *DB) Files() *DB {
	return &DB{pool: s.pool, files: "ocsp_internal."}
}

const selectSnapshot = "select epoch, position, octets, made_at, note from snapshot where epoch = $1 "

// NewestSnapshot reads the newest manifest of an epoch; ErrNotFound if there is none.
func (s *DB) NewestSnapshot(ctx context.Context, epoch int64) (db.Snapshot, error) {
	return scanSnapshot(s.pool.QueryRow(ctx, selectSnapshot+"order by position desc, id desc limit 1", epoch))
}

// tagged is the tag of snapshot s: the first 8 octets of its signed manifest's SHA-256, in hex. A
// snapshot of the same position that was signed again has another tag.
const tagged = "encode(substring(sha256(s.note) for 8), 'hex')"

// FeedSnapshot reads the manifest of a position with a tag; ErrNotFound if it is not here.
func (s *DB) FeedSnapshot(ctx context.Context, epoch, position int64, tag string) (db.Snapshot, error) {
	return scanSnapshot(s.pool.QueryRow(ctx, "select epoch, position, octets, made_at, note from snapshot s where epoch = $1 and position = $2 and "+tagged+" = $3", epoch, position, tag))
}

func scanSnapshot(row pgx.Row) (db.Snapshot, error) {
	var n db.Snapshot
	err := row.Scan(&n.Epoch, &n.Position, &n.Octets, &n.MadeAt, &n.Note)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Snapshot{}, fmt.Errorf("reading a snapshot: %w", db.ErrNotFound)
	}
	if err != nil {
		return db.Snapshot{}, fmt.Errorf("reading a snapshot: %w", pg.Plain(err))
	}
	return n, nil
}

// FeedChunk reads one chunk of that snapshot; ErrNotFound if it is not here.
func (s *DB) FeedChunk(ctx context.Context, epoch, position int64, tag string, i int) ([]byte, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, "select body from snapshot_chunk c join snapshot s on s.id = c.snapshot where epoch = $1 and position = $2 and i = $4 and "+tagged+" = $3",
		epoch, position, tag, i).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("reading a chunk: %w", db.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a chunk: %w", pg.Plain(err))
	}
	return body, nil
}

const SelectSegment = "select epoch, number, first, last, hash, note, note_hash, snapshot_required, "

func ScanSegment(row pgx.Row) (db.Segment, error) {
	var g db.Segment
	var hash, noteHash []byte
	err := row.Scan(&g.Epoch, &g.Number, &g.First, &g.Last, &hash, &g.Note, &noteHash, &g.SnapshotRequired, &g.Body)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Segment{}, fmt.Errorf("reading a segment: %w", db.ErrNotFound)
	}
	if err != nil {
		return db.Segment{}, fmt.Errorf("reading a segment: %w", pg.Plain(err))
	}
	copy(g.Hash[:], hash)
	copy(g.NoteHash[:], noteHash)
	return g, nil
}

// FeedNote reads the newest checkpoint; ErrNotFound before the first.
func (s *DB) FeedNote(ctx context.Context) (db.FeedNote, error) {
	var n db.FeedNote
	err := s.pool.QueryRow(ctx, "select epoch, number, position, as_of, note from "+s.files+"feed_checkpoint").Scan(&n.Epoch, &n.Number, &n.Position, &n.AsOf, &n.Note)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.FeedNote{}, fmt.Errorf("reading the checkpoint: %w", db.ErrNotFound)
	}
	if err != nil {
		return db.FeedNote{}, fmt.Errorf("reading the checkpoint: %w", pg.Plain(err))
	}
	n.AsOf = n.AsOf.UTC()
	return n, nil
}

// FeedSegment reads a segment with its body; ErrNotFound if it is not here.
func (s *DB) FeedSegment(ctx context.Context, epoch, number int64) (db.Segment, error) {
	return ScanSegment(s.pool.QueryRow(ctx, SelectSegment+"body from "+s.files+"segment where epoch = $1 and number = $2", epoch, number))
}

// FeedSeal reads a segment without its body.
func (s *DB) FeedSeal(ctx context.Context, epoch, number int64) (db.Segment, error) {
	return ScanSegment(s.pool.QueryRow(ctx, SelectSegment+"null from "+s.files+"segment where epoch = $1 and number = $2", epoch, number))
}
