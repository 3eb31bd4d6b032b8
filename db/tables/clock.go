package tables

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db/internal/pg"
)

// Clock is the database's clock: the one that as_of is of.
func (s *DB) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, "select clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("asking for the database's clock: %w", pg.Plain(err))
	}
	return now.UTC(), nil
}
