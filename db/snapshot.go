package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Snapshot is a stored snapshot, without its chunks.
type Snapshot struct {
	Epoch, Position int64
	Octets          int64 // of all chunks
	MadeAt          time.Time
	Note            []byte // the manifest, signed
}

// Rows hands every row of the replicated tables to each, as a change without a
// position; Content is valid during the call. They come in the order of their keys:
// a site that loads them so fills its index from left to right, and does not touch
// another page of it for each row.
func (w *Sealing) Rows(ctx context.Context, each func(Change) error) error {
	for _, t := range FeedTables {
		c := &copyReader{row: func(fields [2][]byte) error { return each(Change{Table: t.Code, Content: fields[1]}) }}
		_, err := w.conn.PgConn().CopyTo(ctx, c, "copy (select 0::bigint, "+t.rows+" from "+t.Name+" t order by "+strings.Join(t.columns[:t.keys], ", ")+") to stdout (format binary)")
		if err == nil {
			err = c.end()
		}
		if err != nil {
			return fmt.Errorf("copying %s: %w", t.Name, plain(err))
		}
	}
	return nil
}

// MakeSnapshot gives f one snapshot of the master and a place to put chunks, and
// stores what f returns. All or nothing; of the older ones, one is kept. One of the same
// position, signed anew since its key is not believed any more, is the newer one.
func (s *Publisher) MakeSnapshot(ctx context.Context, f func(ctx context.Context, w *Sealing, put func(i int, body []byte) error) (Snapshot, error)) error {
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(read pgx.Tx) error {
		w := &Sealing{conn: read.Conn()}
		var open batch
		w.queue(&open)
		if err := open.send(ctx, read); err != nil {
			return err
		}
		// The chunks go by a connection of their own: this one is busy with COPY.
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
		return fmt.Errorf("making a snapshot: %w", plain(err))
	}
	return nil
}

// TrimSegments drops segments that were sealed, or came here, longer ago than keep,
// and that every kept snapshot of their epoch covers; those of earlier epochs go by
// age alone. The newest one stays, since the next continues it.
func (s *Publisher) TrimSegments(ctx context.Context, keep time.Duration) (int64, error) {
	var n int64
	if err := s.pool.QueryRow(ctx, "select segment_trim(make_interval(secs => $1))", keep.Seconds()).Scan(&n); err != nil {
		return 0, fmt.Errorf("trimming segments: %w", plain(err))
	}
	return n, nil
}

// SnapshotNeed is what decides whether a new snapshot is due.
type SnapshotNeed struct {
	Head             Head
	Newest           Snapshot // Note is nil: there is none of this epoch
	Since            int64    // octets of the segments sealed since
	SnapshotRequired bool     // one of them requires a snapshot: a site behind it has no other way
}

// SnapshotNeed compares the newest snapshot with what was sealed since.
func (s *Publisher) SnapshotNeed(ctx context.Context) (SnapshotNeed, error) {
	var need SnapshotNeed
	var err error
	if need.Head, err = s.Head(ctx); err != nil {
		return SnapshotNeed{}, err
	}
	need.Newest, err = s.NewestSnapshot(ctx, need.Head.Epoch)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return SnapshotNeed{}, err
	}
	err = s.pool.QueryRow(ctx, "select coalesce(sum(octet_length(body)), 0), coalesce(bool_or(snapshot_required), false) from segment where epoch = $1 and last > $2",
		need.Head.Epoch, need.Newest.Position).Scan(&need.Since, &need.SnapshotRequired)
	if err != nil {
		return SnapshotNeed{}, fmt.Errorf("looking for segments since the snapshot: %w", plain(err))
	}
	return need, nil
}

const selectSnapshot = "select epoch, position, octets, made_at, note from snapshot where epoch = $1 "

// NewestSnapshot reads the newest manifest of an epoch; ErrNotFound when there is none.
func (s *Common) NewestSnapshot(ctx context.Context, epoch int64) (Snapshot, error) {
	return scanSnapshot(s.pool.QueryRow(ctx, selectSnapshot+"order by position desc, id desc limit 1", epoch))
}

// tagged is what a tag says of snapshot s: the first 8 octets of its signed manifest's
// SHA-256, in hex. One of the same position that was signed anew has another.
const tagged = "encode(substring(sha256(s.note) for 8), 'hex')"

// FeedSnapshot reads the manifest of a position with a tag; ErrNotFound when it is not here.
func (s *Common) FeedSnapshot(ctx context.Context, epoch, position int64, tag string) (Snapshot, error) {
	return scanSnapshot(s.pool.QueryRow(ctx, "select epoch, position, octets, made_at, note from snapshot s where epoch = $1 and position = $2 and "+tagged+" = $3", epoch, position, tag))
}

func scanSnapshot(row pgx.Row) (Snapshot, error) {
	var n Snapshot
	err := row.Scan(&n.Epoch, &n.Position, &n.Octets, &n.MadeAt, &n.Note)
	if errors.Is(err, pgx.ErrNoRows) {
		return Snapshot{}, fmt.Errorf("reading a snapshot: %w", ErrNotFound)
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("reading a snapshot: %w", plain(err))
	}
	return n, nil
}

// FeedChunk reads one chunk of that snapshot; ErrNotFound when it is not here.
func (s *Common) FeedChunk(ctx context.Context, epoch, position int64, tag string, i int) ([]byte, error) {
	var body []byte
	err := s.pool.QueryRow(ctx, "select body from snapshot_chunk c join snapshot s on s.id = c.snapshot where epoch = $1 and position = $2 and i = $4 and "+tagged+" = $3",
		epoch, position, tag, i).Scan(&body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("reading a chunk: %w", ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a chunk: %w", plain(err))
	}
	return body, nil
}
