package sitedb

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// keptSnapshots is how many stay: a peer that fetches the last but one may finish.
const keptSnapshots = 2

// keep stores the files of a snapshot, including its chunks.
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

// keepManifest stores the manifest of a snapshot; the chunks follow under its id. Of two of one
// position the later one is the newer: its key counts.
func keepManifest(ctx context.Context, tx pgx.Tx, n db.Snapshot) (id int64, err error) {
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

// dropBeyond deletes what was kept beyond a snapshot that the copy goes back to: it led to the
// replaced copy, and comes again if it is true.
func (from FeedSeed) dropBeyond(write *pg.Batch) {
	write.Exec("delete from segment where epoch = $1 and (number > $2 or last > $3)", from.Anchor.Epoch, from.Anchor.Number, from.Snapshot.Position)
	write.Exec(`with beyond as (delete from snapshot where epoch = $1 and position > $2 returning id)
		delete from snapshot_chunk where snapshot in (select id from beyond)`, from.Anchor.Epoch, from.Snapshot.Position)
}

// dropSnapshots deletes all but the newest ones of a site.
func dropSnapshots(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `with old as (
		  delete from snapshot where id not in (select id from snapshot order by epoch desc, position desc, id desc limit $1) returning id)
		delete from snapshot_chunk where snapshot in (select id from old)`, keptSnapshots)
	if err != nil {
		return fmt.Errorf("dropping old snapshots: %w", err)
	}
	return nil
}
