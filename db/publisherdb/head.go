package publisherdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Heartbeat confirms the master's clock: nothing newer than the head exists now. elapsed is the
// caller's monotonic time since its last confirmation, or negative at its first. capped says that
// the master's clock ran ahead of elapsed by more than 10 s and was not accepted.
func (s *DB) Heartbeat(ctx context.Context, elapsed time.Duration) (asOf time.Time, capped bool, err error) {
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

// Blockers describes the sessions that hold the head row's lock, for the alarm after a missed
// heartbeat: pid, user, application and state of each session that blocks one waiting for
// feed_head, or that has been idle in a transaction for over 5 s.
func (s *DB) Blockers(ctx context.Context) ([]string, error) {
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

// SawSlots records, at the master, which slots sites stream from now: a site may make a slot of
// any name, and all of them are dropped with the site.
func (s *DB) SawSlots(ctx context.Context) error {
	return s.pool.Do(ctx, "noting who streams from which slot", "select slots_seen()")
}
