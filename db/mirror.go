package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// FeedMirror is what a site keeps of the signed files whose rows come another way.
type FeedMirror struct {
	Anchor   Anchor
	Anchored bool     // there is one: the next segment continues it
	Note     FeedNote // the newest checkpoint of the anchor's segment; its Note is nil: none was kept yet
	Snapshot Snapshot // the newest one of the anchor's epoch; its Note is nil: none
}

// FeedMirror reads how far the mirrored files go.
func (s *Store) FeedMirror(ctx context.Context) (FeedMirror, error) {
	var m FeedMirror
	var hash, noteHash []byte
	err := s.pool.QueryRow(ctx, "select epoch, number, hash, note_hash from feed_anchor").Scan(&m.Anchor.Epoch, &m.Anchor.Number, &hash, &noteHash)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("reading the feed's anchor: %w", plain(err))
	}
	m.Anchored = true
	copy(m.Anchor.Hash[:], hash)
	copy(m.Anchor.NoteHash[:], noteHash)
	n, err := s.FeedNote(ctx)
	switch {
	case errors.Is(err, ErrNotSealed):
	case err != nil:
		return m, err
	case n.Epoch == m.Anchor.Epoch && n.Number == m.Anchor.Number:
		m.Note = n
	}
	if m.Snapshot, err = s.NewestSnapshot(ctx, m.Anchor.Epoch); err != nil && !errors.Is(err, ErrNotSealed) {
		return m, err
	}
	return m, nil
}

// Mirror keeps a step's signed files and no rows. Doing it twice does no harm.
func (s *Store) Mirror(ctx context.Context, step FeedStep) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var write trip
		step.queue(&write)
		return write.send(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("mirroring position %d: %w", step.Head.Position, plain(err))
	}
	return nil
}

// MirrorSnapshot keeps a verified snapshot's files and no rows; the mirror goes on
// from its anchor.
func (s *Store) MirrorSnapshot(ctx context.Context, from FeedSeed) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		n := from.Snapshot
		for i := range from.Chunks {
			body, _, err := from.Chunk(ctx, i)
			if err != nil {
				return err
			}
			if err := keepChunk(ctx, tx, n, i, body); err != nil {
				return err
			}
		}
		var write trip
		from.Anchor.queue(&write)
		if err := write.send(ctx, tx); err != nil {
			return fmt.Errorf("storing the feed's anchor: %w", err)
		}
		return keepSnapshot(ctx, tx, n)
	})
	if err != nil {
		return fmt.Errorf("mirroring the snapshot of position %d: %w", from.Snapshot.Position, plain(err))
	}
	return nil
}

// keepChunk keeps one chunk, in the place of one of the same position that was made
// anew, since its key is not believed any more.
func keepChunk(ctx context.Context, tx pgx.Tx, n Snapshot, i int, body []byte) error {
	var write trip
	write.exec("delete from snapshot_chunk where epoch = $1 and position = $2 and i = $3", n.Epoch, n.Position, i)
	write.exec("insert into snapshot_chunk values ($1, $2, $3, $4)", n.Epoch, n.Position, i, body)
	if err := write.send(ctx, tx); err != nil {
		return fmt.Errorf("keeping chunk %d: %w", i, err)
	}
	return nil
}

func keepSnapshot(ctx context.Context, tx pgx.Tx, n Snapshot) error {
	var write trip
	write.exec("delete from snapshot where epoch = $1 and position = $2", n.Epoch, n.Position)
	write.exec("insert into snapshot (epoch, position, note, octets) values ($1, $2, $3, $4)", n.Epoch, n.Position, n.Note, n.Octets)
	if err := write.send(ctx, tx); err != nil {
		return fmt.Errorf("keeping the manifest: %w", err)
	}
	return dropSnapshots(ctx, tx)
}
