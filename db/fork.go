package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Fork is two signed statements of the feed that contradict each other.
type Fork struct {
	ID           int64
	At           time.Time
	From         string // at a site: the source that showed the second; at the master: the site that found it
	Why          string
	Ours, Theirs []byte
}

// keptForks bounds the evidence: the first contradictions tell the story, and a
// thief who signs on could fill the disk with more.
const keptForks = 64

// KeepFork keeps two signed statements that contradict each other, at a site. Beyond 64
// open pairs nothing is kept.
func (s *Site) KeepFork(ctx context.Context, source, why string, ours, theirs []byte) error {
	_, err := s.pool.Exec(ctx, `insert into feed_fork (source, why, ours, theirs) select $1, $2, $3, $4
		where (select count(*) from feed_fork where settled is null) < $5 on conflict do nothing`, source, why, ours, theirs, keptForks)
	if err != nil {
		return fmt.Errorf("keeping a fork of the feed: %w", plain(err))
	}
	return nil
}

// Forks reads the contradictions that a site keeps and nobody has settled, the oldest
// first. Which of them count, the newest key set says (feed.KeySet.Forked).
func (s *Site) Forks(ctx context.Context) ([]Fork, error) {
	return readForks(ctx, s.pool, "select id, at, source, why, ours, theirs from feed_fork where settled is null order by id")
}

// ReportedForks reads those that sites have handed to the master and nobody has
// settled, the oldest first.
func (s *Reader) ReportedForks(ctx context.Context) ([]Fork, error) {
	return readForks(ctx, s.pool, "select id, at, site, why, ours, theirs from feed_fork where settled is null order by id")
}

func readForks(ctx context.Context, q querier, sql string) ([]Fork, error) {
	rows, err := q.Query(ctx, sql)
	var forks []Fork
	if err == nil {
		forks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Fork])
	}
	if err != nil {
		return nil, fmt.Errorf("reading the forks of the feed: %w", plain(err))
	}
	for i := range forks {
		forks[i].At = forks[i].At.UTC()
	}
	return forks, nil
}

// SettleFork notes at a site that a contradiction was settled at the master.
func (s *Site) SettleFork(ctx context.Context, id int64) error {
	if _, err := s.pool.Exec(ctx, "update feed_fork set settled = clock_timestamp() where id = $1", id); err != nil {
		return fmt.Errorf("settling fork %d: %w", id, plain(err))
	}
	return nil
}

// ReportFork keeps at the master what a site has found, and says whether two persons
// have settled it. The store's login is in ocsp_publisher.
func (s *Publisher) ReportFork(ctx context.Context, site, why string, ours, theirs []byte) (settled bool, err error) {
	if err := s.pool.QueryRow(ctx, "select feed_fork_report($1, $2, $3, $4)", site, why, ours, theirs).Scan(&settled); err != nil {
		return false, fmt.Errorf("keeping a fork that site %q reports: %w", site, plain(err))
	}
	return settled, nil
}

// RequestForkSettle asks for the agreement of a second person that forks were looked
// into: those of the given numbers, or all open ones.
func (s *Master) RequestForkSettle(ctx context.Context, forks []int64, act Act) (id int64, expires time.Time, err error) {
	details := map[string]any{}
	if len(forks) > 0 {
		details["forks"] = forks
	}
	return s.request(ctx, ApprovalFork, details, act)
}
