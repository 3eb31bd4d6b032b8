package tables

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// ReportedForks reads the forks that sites have reported to the master and that are not settled,
// the oldest first.
func ReportedForks(ctx context.Context, q pg.Querier) ([]db.Fork, error) {
	return ReadForks(ctx, q, "select id, at, site, why, ours, theirs from feed_fork where settled is null order by id")
}

// ReadForks reads forks by the columns of db.Fork.
func ReadForks(ctx context.Context, q pg.Querier, sql string) ([]db.Fork, error) {
	rows, err := q.Query(ctx, sql)
	var forks []db.Fork
	if err == nil {
		forks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[db.Fork])
	}
	if err != nil {
		return nil, fmt.Errorf("reading the forks of the feed: %w", pg.Plain(err))
	}
	for i := range forks {
		forks[i].At = forks[i].At.UTC()
	}
	return forks, nil
}
