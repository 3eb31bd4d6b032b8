package masterdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db/internal/pg"
)

// PositionAt returns the position of the last change that the master had
// committed at a time of its own clock; 0 when there was none.
func (s *DB) PositionAt(ctx context.Context, at time.Time) (int64, error) {
	var position int64
	err := s.pool.QueryRow(ctx, "select coalesce((select last from change_tx where at <= $1 order by last desc limit 1), 0)", at).Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("reading the position at %s: %w", at.UTC().Format(time.RFC3339), pg.Plain(err))
	}
	return position, nil
}

// InitHead makes the head row of a new master. The epoch is the time in seconds
// since 1970, so that a later one is always greater.
func (s *DB) InitHead(ctx context.Context, now time.Time) error {
	if _, err := s.pool.Exec(ctx, "select head_init($1)", now.Unix()); err != nil {
		return fmt.Errorf("making the head: %w", pg.Plain(err))
	}
	return nil
}

// Heartbeat confirms the master's clock: nothing newer than the head exists now.
// elapsed is the caller's monotonic time since its last confirmation, or
// negative at its first. capped says that the master's clock ran ahead of
// elapsed by more than 10 s and was not believed.
func (s *Publisher) Heartbeat(ctx context.Context, elapsed time.Duration) (asOf time.Time, capped bool, err error) {
	var since *time.Duration
	if elapsed >= 0 {
		since = &elapsed
	}
	err = s.pool.QueryRow(ctx, "select as_of, capped from heartbeat($1)", since).Scan(&asOf, &capped)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("confirming the head: %w", pg.Plain(err))
	}
	return asOf.UTC(), capped, nil
}

// Blockers names what holds the head row's lock, for the alarm after a missed
// heartbeat: pid, user, application and state of each session that blocks one
// waiting for feed_head, or that has been idle in a transaction for over 5 s.
func (s *Publisher) Blockers(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `
		select format('pid %s user %s application %s %s since %s', b.pid, b.usename, coalesce(nullif(b.application_name, ''), '-'), b.state, b.xact_start)
		from pg_stat_activity b
		where b.pid in (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w where w.wait_event_type = 'Lock')
		   or (b.datname = current_database() and b.state like 'idle in transaction%' and b.xact_start < clock_timestamp() - interval '5 s')`)
	if err != nil {
		return nil, fmt.Errorf("asking who blocks the head: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
