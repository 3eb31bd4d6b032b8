package publisherdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Rows calls each with every row of the replicated tables, as a change without a position; Content
// is valid during the call. The rows come in the order of their keys: so a site that loads them
// fills its index from left to right, and does not touch another page of it for each row.
func (w *Sealing) Rows(ctx context.Context, each func(db.Change) error) error {
	for _, t := range db.FeedTables {
		c := &pg.CopyReader{Row: func(fields [2][]byte) error { return each(db.Change{Table: t.Code, Content: fields[1]}) }}
		_, err := w.conn.PgConn().CopyTo(ctx, c, "copy (select 0::bigint, "+t.Rows+" from "+t.Name+" t order by "+strings.Join(t.Columns[:t.Keys], ", ")+") to stdout (format binary)")
		if err == nil {
			err = c.End()
		}
		if err != nil {
			return fmt.Errorf("copying %s: %w", t.Name, pg.Plain(err))
		}
	}
	return nil
}

// MakeSnapshot gives f one snapshot of the master and a place to put chunks, and stores what f
// returns, all or nothing; of the older ones, one is kept. A snapshot of the same position that
// was signed again, since its key no longer counts, is the newer one.
func (s *DB) MakeSnapshot(ctx context.Context, f func(ctx context.Context, w *Sealing, put func(i int, body []byte) error) (db.Snapshot, error)) error {
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(read pgx.Tx) error {
		w := &Sealing{conn: read.Conn()}
		var open pg.Batch
		w.queue(&open)
		if err := open.Send(ctx, read); err != nil {
			return err
		}
		// The chunks use another connection: this one is busy with COPY.
		return pgx.BeginFunc(ctx, s.pool, func(write pgx.Tx) error {
			var id int64
			if err := write.QueryRow(ctx, "select snapshot_begin($1, $2)", w.Head.Epoch, w.Head.Position).Scan(&id); err != nil {
				return err
			}
			made, err := f(ctx, w, func(i int, body []byte) error {
				_, err := write.Exec(ctx, "select snapshot_chunk_add($1, $2, $3)", id, i, body)
				return err
			})
			if err != nil {
				return err
			}
			if _, err = write.Exec(ctx, "select snapshot_end($1, $2, $3)", id, made.Note, made.Octets); err != nil {
				return fmt.Errorf("storing the manifest: %w", err)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("making a snapshot: %w", pg.Plain(err))
	}
	return nil
}

// TrimSegments deletes segments that were sealed, or came here, longer ago than keep, and that
// every kept snapshot of their epoch covers; for those of earlier epochs only the age counts. The
// newest one stays, since the next continues it.
func (s *DB) TrimSegments(ctx context.Context, keep time.Duration) (int64, error) {
	return pg.Value[int64](ctx, s.pool, "trimming segments", "select segment_trim(make_interval(secs => $1))", keep.Seconds())
}

// SnapshotNeed is what decides whether a new snapshot is due.
type SnapshotNeed struct {
	Head             db.Head
	Newest           db.Snapshot // Note is nil: there is none of this epoch
	Since            int64       // octets of the segments sealed since
	SnapshotRequired bool        // one of them requires a snapshot: a site behind it has no other way
}

// SnapshotNeed compares the newest snapshot with the segments sealed since.
func (s *DB) SnapshotNeed(ctx context.Context) (SnapshotNeed, error) {
	var need SnapshotNeed
	var err error
	if need.Head, err = s.Head(ctx); err != nil {
		return SnapshotNeed{}, err
	}
	need.Newest, err = s.NewestSnapshot(ctx, need.Head.Epoch)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return SnapshotNeed{}, err
	}
	err = s.pool.QueryRow(ctx, "select coalesce(sum(octet_length(body)), 0), coalesce(bool_or(snapshot_required), false) from segment where epoch = $1 and last > $2",
		need.Head.Epoch, need.Newest.Position).Scan(&need.Since, &need.SnapshotRequired)
	if err != nil {
		return SnapshotNeed{}, fmt.Errorf("looking for segments since the snapshot: %w", pg.Plain(err))
	}
	return need, nil
}
