package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// ReportedForks reads those that sites have handed to the master and nobody has
// settled, the oldest first.
func (s *Reader) ReportedForks(ctx context.Context) ([]db.Fork, error) {
	return tables.ReadForks(ctx, s.pool, "select id, at, site, why, ours, theirs from feed_fork where settled is null order by id")
}

// ReportFork keeps at the master what a site has found, and says whether two persons
// have settled it. The store's login is in ocsp_publisher.
func (s *Publisher) ReportFork(ctx context.Context, site, why string, ours, theirs []byte) (settled bool, err error) {
	if err := s.pool.QueryRow(ctx, "select feed_fork_report($1, $2, $3, $4)", site, why, ours, theirs).Scan(&settled); err != nil {
		return false, fmt.Errorf("keeping a fork that site %q reports: %w", site, pg.Plain(err))
	}
	return settled, nil
}

// RequestForkSettle asks for the agreement of a second person that forks were looked
// into: those of the given numbers, or all open ones.
func (s *DB) RequestForkSettle(ctx context.Context, forks []int64, act db.Act) (id int64, expires time.Time, err error) {
	details := map[string]any{}
	if len(forks) > 0 {
		details["forks"] = forks
	}
	return s.request(ctx, ApprovalFork, details, act)
}
