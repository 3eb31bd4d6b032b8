package sitedb

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// keptForks bounds the evidence: the first contradictions are enough, and a thief with the key
// could fill the disk with more.
const keptForks = 64

// KeepFork stores two signed statements that contradict each other, at a site. Beyond 64 open
// pairs it stores nothing.
func (s *DB) KeepFork(ctx context.Context, source, why string, ours, theirs []byte) error {
	_, err := s.pool.Exec(ctx, `insert into feed_fork (source, why, ours, theirs) select $1, $2, $3, $4
		where (select count(*) from feed_fork where settled is null) < $5 on conflict do nothing`, source, why, ours, theirs, keptForks)
	if err != nil {
		return fmt.Errorf("keeping a fork of the feed: %w", pg.Plain(err))
	}
	return nil
}

// Forks reads the contradictions at a site that are not settled, the oldest first. The newest key
// set says which of them count (feed.KeySet.Forked).
func (s *DB) Forks(ctx context.Context) ([]db.Fork, error) {
	return tables.ReadForks(ctx, s.pool, "select id, at, source, why, ours, theirs from feed_fork where settled is null order by id")
}

// SettleFork notes at a site that a contradiction was settled at the master.
func (s *DB) SettleFork(ctx context.Context, id int64) error {
	if _, err := s.pool.Exec(ctx, "update feed_fork set settled = clock_timestamp() where id = $1", id); err != nil {
		return fmt.Errorf("settling fork %d: %w", id, pg.Plain(err))
	}
	return nil
}
