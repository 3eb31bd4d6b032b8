package db

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// sender is a pool or a transaction.
type sender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// trip is several statements that go to the database in one round trip: on a machine
// whose cores are busy, each round trip waits twice for its turn.
type trip struct {
	batch pgx.Batch
	found []error // of what was read, in the order of the statements
}

// exec queues a statement without an answer.
func (t *trip) exec(sql string, args ...any) { t.batch.Queue(sql, args...) }

// row queues a statement of one row. What scan makes of it does not keep the others
// from being read.
func (t *trip) row(scan func(pgx.Row) error, sql string, args ...any) {
	t.batch.Queue(sql, args...).QueryRow(func(row pgx.Row) error {
		t.found = append(t.found, scan(row))
		return nil
	})
}

// rows queues a statement of many rows.
func (t *trip) rows(scan func(pgx.Rows) error, sql string, args ...any) {
	t.batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		t.found = append(t.found, scan(rows))
		return nil
	})
}

// send runs the statements. It returns the first error.
func (t *trip) send(ctx context.Context, to sender) error {
	if t.batch.Len() == 0 {
		return nil
	}
	err := to.SendBatch(ctx, &t.batch).Close()
	for _, found := range t.found {
		if found != nil {
			return found
		}
	}
	return err
}
