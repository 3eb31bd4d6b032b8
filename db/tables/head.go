package tables

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// SelectHead is the beginning of a query for ScanHead.
var SelectHead = selectHead()

func selectHead() string {
	columns := "epoch, position, as_of, audit_count, audit_hash"
	for _, t := range db.FeedTables {
		columns += fmt.Sprintf(", %[1]s_count, %[1]s_digest::text", t.Name)
	}
	return "select " + columns + " from "
}

// Head reads the head row, or ErrNoHead.
func (s *DB) Head(ctx context.Context) (db.Head, error) { return ReadHead(ctx, s.pool) }

func ReadHead(ctx context.Context, q pg.Querier) (db.Head, error) {
	return ReadHeadOf(ctx, q, "feed_head")
}

// ReadHeadOf reads the head row from table, which has feed_head's columns.
func ReadHeadOf(ctx context.Context, q pg.Querier, table string) (db.Head, error) {
	return ScanHead(q.QueryRow(ctx, SelectHead+table))
}

func ScanHead(row pgx.Row) (db.Head, error) {
	var h db.Head
	digests := make([]string, len(db.FeedTables))
	into := []any{&h.Epoch, &h.Position, &h.AsOf, &h.AuditCount, &h.AuditHash}
	for i, t := range db.FeedTables {
		into = append(into, &t.Tally(&h).Count, &digests[i])
	}
	err := row.Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Head{}, db.ErrNoHead
	}
	if err != nil {
		return db.Head{}, fmt.Errorf("reading the head: %w", pg.Plain(err))
	}
	for i, t := range db.FeedTables {
		n, err := strconv.ParseUint(digests[i], 10, 64)
		if err != nil {
			return db.Head{}, fmt.Errorf("reading the head: %w", err)
		}
		t.Tally(&h).Digest = db.Digest(n)
	}
	h.AsOf = h.AsOf.UTC()
	return h, nil
}

// LockReaders blocks TRUNCATE and table swaps while a snapshot is read: they are not MVCC-safe.
// The order is always this, feed_head first; LOCK takes no snapshot.
var LockReaders = "lock table " + strings.Join(db.ReplicatedTables, ", ") + " in access share mode"

// Verify recounts the replicated tables in one snapshot and compares them with
// the head (1 M rows: about a second).
func (s *DB) Verify(ctx context.Context) ([]db.Count, error) {
	var counts []db.Count
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, LockReaders); err != nil {
			return err
		}
		var err error
		counts, err = Recount(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("verifying the database: %w", pg.Plain(err))
	}
	return counts, nil
}

func Recount(ctx context.Context, q pg.Querier) ([]db.Count, error) {
	h, err := ReadHead(ctx, q)
	if err != nil {
		return nil, err
	}
	var counts []db.Count
	for _, t := range db.FeedTables {
		c := db.Count{Table: t.Name, Head: *t.Tally(&h)}
		if c.Counted, err = Tally(ctx, q, t.Name, t.Rows); err != nil {
			return nil, err
		}
		c.Identical = c.Counted == c.Head
		counts = append(counts, c)
	}
	return counts, nil
}

// Tally recounts a table, named t, by the canonical bytes of its rows.
func Tally(ctx context.Context, q pg.Querier, table, canonical string) (db.Tally, error) {
	var t db.Tally
	var digest string
	err := q.QueryRow(ctx, fmt.Sprintf("select count(*), mod64(coalesce(sum(row_digest(%s)), 0))::text from %s t", canonical, table)).Scan(&t.Count, &digest)
	if err != nil {
		return db.Tally{}, fmt.Errorf("recounting %s: %w", table, err)
	}
	n, err := strconv.ParseUint(digest, 10, 64)
	if err != nil {
		return db.Tally{}, fmt.Errorf("recounting %s: %w", table, err)
	}
	t.Digest = db.Digest(n)
	return t, nil
}

func Texts(ctx context.Context, q pg.Querier, sql string) ([]string, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
