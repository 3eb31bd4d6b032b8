package masterdb

import (
	"context"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/tables"
)

// ReportedForks is tables.ReportedForks.
func (s *DB) ReportedForks(ctx context.Context) ([]db.Fork, error) {
	return tables.ReportedForks(ctx, s.pool)
}

// RequestForkSettle asks for the agreement of a second person that forks were examined: those with
// the given numbers, or all open ones.
func (s *DB) RequestForkSettle(ctx context.Context, forks []int64, act db.Act) (id int64, expires time.Time, err error) {
	details := map[string]any{}
	if len(forks) > 0 {
		details["forks"] = forks
	}
	return s.request(ctx, ApprovalFork, details, act)
}
