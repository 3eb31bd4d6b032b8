package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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

// inTrips runs one transaction in two round trips: BEGIN with what open queues to be
// read, and what f returns to be written with COMMIT. f may use the connection in
// between. Nothing of an error is kept.
func (s *Store) inTrips(ctx context.Context, begin string, open func(*trip) error, f func(context.Context, *pgx.Conn) (*trip, error)) error {
	conn, err := s.open(ctx, func(t *trip) error {
		t.exec(begin)
		return open(t)
	})
	if err != nil {
		return err
	}
	defer conn.Release()
	write, err := f(ctx, conn.Conn())
	if err == nil {
		write.exec("commit")
		err = write.send(ctx, conn)
	}
	rollBack(ctx, conn)
	return err
}

// unasked marks a context whose connection is not asked whether it lives.
type unasked struct{}

// open runs a first round trip, which must only read, on a connection that was not
// asked whether it lives: where that is the corpse of one, again on another. The
// caller releases the connection.
func (s *Store) open(ctx context.Context, queue func(*trip) error) (*pgxpool.Conn, error) {
	acquiring := context.WithValue(ctx, unasked{}, true)
	for {
		conn, err := s.pool.Acquire(acquiring)
		if err != nil {
			return nil, err
		}
		var read trip
		if err = queue(&read); err == nil {
			err = read.send(ctx, conn)
		}
		if err == nil {
			return conn, nil
		}
		corpse := conn.Conn().IsClosed() && ctx.Err() == nil && acquiring != ctx
		rollBack(ctx, conn)
		conn.Release()
		if !corpse {
			return nil, err
		}
		acquiring = ctx
	}
}

// ask reads in one round trip.
func (s *Store) ask(ctx context.Context, queue func(*trip) error) error {
	conn, err := s.open(ctx, queue)
	if err == nil {
		conn.Release()
	}
	return err
}

// rollBack ends a transaction that was not committed, so that its connection can be
// used again; one that cannot be is closed by Release.
func rollBack(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = conn.Exec(ctx, "rollback")
}
