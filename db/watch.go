package db

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Blocker is a session at the master that others wait for, or whose transaction is old.
type Blocker struct {
	PID         int32
	Started     time.Time // of the session
	Transaction string    // names it within the session
	Login       string
	Application string
	Doing       string // for people
	Waits       bool   // somebody has waited for it for long
	Head        bool   // it has the head
	Idle        bool   // it does nothing meanwhile
	Old         bool   // its transaction began over 10 minutes ago
	Spared      string // why it may not be ended; empty: it may
}

// String names the session for people.
func (b Blocker) String() string {
	return fmt.Sprintf("login %s, application %q, pid %d (%s)", b.Login, b.Application, b.PID, b.Doing)
}

// HeadWaiter waits for the head again and again, on a connection of its own that keeps
// its place among all who wait: whom it waits for, has the head.
type HeadWaiter struct {
	pool *Pool
	pid  int32
}

// AwaitHead lets the waiter wait, each pause, until ctx ends or the connection is lost;
// use calls it once it has its connection.
func (s *Publisher) AwaitHead(ctx context.Context, pause time.Duration, use func(HeadWaiter)) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("waiting for the head: %w", plain(err))
	}
	defer conn.Release()
	use(HeadWaiter{s.pool, int32(conn.Conn().PgConn().PID())})
	for {
		// Rolled back: a COMMIT would wait for a standby, and keep the head meanwhile.
		if _, err := conn.Conn().PgConn().Exec(ctx, "begin; select head_await(); rollback").ReadAll(); err != nil {
			return fmt.Errorf("waiting for the head: %w", plain(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Watch returns who makes others wait for longer than wait (at least a second), who has
// the head that the waiter waits for, and whose transaction is old.
func (w HeadWaiter) Watch(ctx context.Context, wait time.Duration) ([]Blocker, error) {
	rows, err := w.pool.Query(ctx, "select * from watch($1, $2, $3)", w.pool.own(), w.pid, wait)
	if err != nil {
		return nil, fmt.Errorf("looking who waits for whom: %w", plain(err))
	}
	blockers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Blocker])
	if err != nil {
		return nil, fmt.Errorf("looking who waits for whom: %w", plain(err))
	}
	return blockers, nil
}

// End ends a session that Watch has named. False: it is gone, or does something else by now.
func (w HeadWaiter) End(ctx context.Context, wait time.Duration, b Blocker) (bool, error) {
	var ended bool
	err := w.pool.QueryRow(ctx, "select watch_end($1, $2, $3, $4, $5, $6)", w.pool.own(), w.pid, wait, b.PID, b.Started, b.Transaction).Scan(&ended)
	if err != nil {
		return false, fmt.Errorf("ending %s: %w", b, plain(err))
	}
	return ended, nil
}

// Ended notes in the audit that a session was ended; that waits for the head.
func (s *Publisher) Ended(ctx context.Context, b Blocker, why string) error {
	if _, err := s.pool.Exec(ctx, "select watch_audit($1, $2, $3, $4, $5)", b.Login, b.Application, b.PID, b.Doing, why); err != nil {
		return fmt.Errorf("noting the end of %s: %w", b, plain(err))
	}
	return nil
}

// own are the PostgreSQL processes that serve this pool.
func (s *Pool) own() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pids []int32
	for _, pid := range slices.Sorted(maps.Keys(s.backends)) {
		pids = append(pids, int32(pid))
	}
	return pids
}
