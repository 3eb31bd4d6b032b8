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
		if err := from.keep(ctx, tx); err != nil {
			return err
		}
		var write trip
		from.Anchor.queue(&write)
		from.dropBeyond(&write)
		if err := write.send(ctx, tx); err != nil {
			return fmt.Errorf("storing the feed's anchor: %w", err)
		}
		return dropSnapshots(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("mirroring the snapshot of position %d: %w", from.Snapshot.Position, plain(err))
	}
	return nil
}

// keptSnapshots is how many stay: who began to fetch the last but one may end.
const keptSnapshots = 2

// keep keeps the files of a snapshot, its chunks included.
func (from FeedSeed) keep(ctx context.Context, tx pgx.Tx) error {
	id, err := keepManifest(ctx, tx, from.Snapshot)
	if err != nil {
		return err
	}
	for i := range from.Chunks {
		body, _, err := from.Chunk(ctx, i)
		if err != nil {
			return err
		}
		if err := keepChunk(ctx, tx, id, i, body); err != nil {
			return err
		}
	}
	return nil
}

// keepManifest keeps the manifest of a snapshot; the chunks follow under its id. Of two
// of one position the one that came last is the newer: its key is believed.
func keepManifest(ctx context.Context, tx pgx.Tx, n Snapshot) (id int64, err error) {
	err = tx.QueryRow(ctx, "insert into snapshot (epoch, position, note, octets) values ($1, $2, $3, $4) returning id", n.Epoch, n.Position, n.Note, n.Octets).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("keeping the manifest: %w", err)
	}
	return id, nil
}

func keepChunk(ctx context.Context, tx pgx.Tx, snapshot int64, i int, body []byte) error {
	if _, err := tx.Exec(ctx, "insert into snapshot_chunk (snapshot, i, body) values ($1, $2, $3)", snapshot, i, body); err != nil {
		return fmt.Errorf("keeping chunk %d: %w", i, err)
	}
	return nil
}

// dropBeyond drops what was kept beyond a snapshot that the copy goes back to: it led
// to the copy that is replaced, and comes again if it is true.
func (from FeedSeed) dropBeyond(write *trip) {
	write.exec("delete from segment where epoch = $1 and (number > $2 or last > $3)", from.Anchor.Epoch, from.Anchor.Number, from.Snapshot.Position)
	write.exec(`with beyond as (delete from snapshot where epoch = $1 and position > $2 returning id)
		delete from snapshot_chunk where snapshot in (select id from beyond)`, from.Anchor.Epoch, from.Snapshot.Position)
}

// dropSnapshots keeps the newest ones of a site.
func dropSnapshots(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `with old as (
		  delete from snapshot where id not in (select id from snapshot order by epoch desc, position desc, id desc limit $1) returning id)
		delete from snapshot_chunk where snapshot in (select id from old)`, keptSnapshots)
	if err != nil {
		return fmt.Errorf("dropping old snapshots: %w", err)
	}
	return nil
}
