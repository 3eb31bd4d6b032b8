package tables

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db/internal/pg"
)

// Clock returns the database's clock, the clock of as_of.
func (s *DB) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, "select clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("asking for the database's clock: %w", pg.Plain(err))
	}
	return now.UTC(), nil
}
