package pg

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

// Batch is several statements that go to the database in one round trip: on a machine
// whose cores are busy, each round trip waits twice for its turn.
type Batch struct {
	queued pgx.Batch
	found  []error // of what was read, in the order of the statements
}

// Exec queues a statement without an answer.
func (b *Batch) Exec(sql string, args ...any) { b.queued.Queue(sql, args...) }

// Row queues a statement of one row. What scan makes of it does not keep the others
// from being read.
func (b *Batch) Row(scan func(pgx.Row) error, sql string, args ...any) {
	b.queued.Queue(sql, args...).QueryRow(func(row pgx.Row) error {
		b.found = append(b.found, scan(row))
		return nil
	})
}

// Rows queues a statement of many rows.
func (b *Batch) Rows(scan func(pgx.Rows) error, sql string, args ...any) {
	b.queued.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		b.found = append(b.found, scan(rows))
		return nil
	})
}

// Send runs the statements. It returns the first error.
func (b *Batch) Send(ctx context.Context, to sender) error {
	if b.queued.Len() == 0 {
		return nil
	}
	err := to.SendBatch(ctx, &b.queued).Close()
	for _, found := range b.found {
		if found != nil {
			return found
		}
	}
	return err
}

// InTwoRoundTrips runs one transaction in two round trips: BEGIN with what open queues to be
// read, and what f returns to be written with COMMIT. f may use the connection in
// between. Nothing of an error is kept.
func (s *Pool) InTwoRoundTrips(ctx context.Context, begin string, open func(*Batch) error, f func(context.Context, *pgx.Conn) (*Batch, error)) error {
	conn, err := s.open(ctx, func(b *Batch) error {
		b.Exec(begin)
		return open(b)
	})
	if err != nil {
		return err
	}
	defer conn.Release()
	write, err := f(ctx, conn.Conn())
	if err == nil {
		write.Exec("commit")
		err = write.Send(ctx, conn)
	}
	rollBack(ctx, conn)
	return err
}

// skipPing marks a context whose connection is not asked whether it lives.
type skipPing struct{}

// open runs a first round trip, which must only read, on a connection that was not
// asked whether it lives: where that is the corpse of one, again on another. The
// caller releases the connection.
func (s *Pool) open(ctx context.Context, queue func(*Batch) error) (*pgxpool.Conn, error) {
	acquiring := context.WithValue(ctx, skipPing{}, true)
	for {
		conn, err := s.Acquire(acquiring)
		if err != nil {
			return nil, err
		}
		var read Batch
		if err = queue(&read); err == nil {
			err = read.Send(ctx, conn)
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

// ReadBatch reads in one round trip.
func (s *Pool) ReadBatch(ctx context.Context, queue func(*Batch) error) error {
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
