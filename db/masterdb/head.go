package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db/internal/pg"
)

// PositionAt returns the position of the last change that the master had committed at a time of
// its own clock; 0 if there was none.
func (s *DB) PositionAt(ctx context.Context, at time.Time) (int64, error) {
	return pg.Value[int64](ctx, s.pool, fmt.Sprintf("reading the position at %s", at.UTC().Format(time.RFC3339)), "select coalesce((select last from change_tx where at <= $1 order by last desc limit 1), 0)", at)
}

// InitHead makes the head row of a new master. The epoch is the time in seconds
// since 1970, so that a later one is always greater.
func (s *DB) InitHead(ctx context.Context, now time.Time) error {
	return s.pool.Do(ctx, "making the head", "select head_init($1)", now.Unix())
}
