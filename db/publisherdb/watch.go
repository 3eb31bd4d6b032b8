package publisherdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// HeadWaiter waits for the head repeatedly, on its own connection, which keeps its place in the
// queue: the session that it waits for has the head.
type HeadWaiter struct {
	pool *pg.Pool
	pid  int32
}

// AwaitHead runs the waiter, once each pause, until ctx ends or the connection is lost; it calls
// use once the waiter has its connection.
func (s *DB) AwaitHead(ctx context.Context, pause time.Duration, use func(HeadWaiter)) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("waiting for the head: %w", pg.Plain(err))
	}
	defer conn.Release()
	use(HeadWaiter{s.pool, int32(conn.Conn().PgConn().PID())})
	for {
		// Rolled back: a COMMIT would wait for a standby, and keep the head during that time.
		if _, err := conn.Conn().PgConn().Exec(ctx, "begin; select head_await(); rollback").ReadAll(); err != nil {
			return fmt.Errorf("waiting for the head: %w", pg.Plain(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Watch returns the sessions that make others wait for longer than wait (at least a second), that
// have the head that the waiter waits for, or that have an old transaction.
func (w HeadWaiter) Watch(ctx context.Context, wait time.Duration) ([]db.Blocker, error) {
	return pg.List(ctx, w.pool, "looking who waits for whom", pgx.RowToStructByPos[db.Blocker], "select * from watch($1, $2, $3)", w.pool.Own(), w.pid, wait)
}

// End ends a session that Watch has named. False: it is gone, or does something else by now.
func (w HeadWaiter) End(ctx context.Context, wait time.Duration, b db.Blocker) (bool, error) {
	return pg.Value[bool](ctx, w.pool, fmt.Sprintf("ending %s", b), "select watch_end($1, $2, $3, $4, $5, $6)", w.pool.Own(), w.pid, wait, b.PID, b.Started, b.Transaction)
}

// Ended writes into the audit that a session was ended; that waits for the head.
func (s *DB) Ended(ctx context.Context, b db.Blocker, why string) error {
	return s.pool.Do(ctx, fmt.Sprintf("noting the end of %s", b), "select watch_audit($1, $2, $3, $4, $5)", b.Login, b.Application, b.PID, b.Doing, why)
}
