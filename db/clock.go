package db

import (
	"context"
	"fmt"
	"time"
)

// Clock is the database's clock: the one that as_of is of.
func (s *Common) Clock(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, "select clock_timestamp()").Scan(&now); err != nil {
		return time.Time{}, fmt.Errorf("asking for the database's clock: %w", plain(err))
	}
	return now.UTC(), nil
}
