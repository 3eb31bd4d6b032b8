package masterdb

import (
	"context"

	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// Try calls f, which changes rows at the master through the DB that it is given, in
// one transaction; with apply it is committed, without it is rolled back, once the rules
// that are looked at when it commits (the hourly limit) were looked at. So a plan is
// what will be done, judged by those who will judge it: what Try lets pass goes through
// with apply, and what f returns is what would be there. Numbers that it was given
// (requests) and times are those of now: with apply they are others.
//
// f must only write rows, at most 1,000 of them, since every other writer waits for the
// one head. What reaches beyond the transaction (slots, sessions, the DNS, files, a CA's
// signature) is real whatever becomes of it: the SQL functions that do such refuse to be
// tried, and have a twin that only says what they would do.
func (s *DB) Try(ctx context.Context, apply bool, f func(*DB) error) error {
	return s.pool.Try(ctx, apply, func(pool *pg.Pool) error { return f(newMaster(pool)) })
}

// Sites is the roster at the master.
type Sites struct {
	pool *pg.Pool
}

// DB is the master's database as its staff use it.
type DB struct {
	*tables.DB
	Sites
	pool *pg.Pool
}

// Open prepares a pool for the master's database.
func Open(ctx context.Context, cfg pg.Config) (*DB, error) {
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return newMaster(pool), nil
}

func newMaster(pool *pg.Pool) *DB {
	return &DB{tables.New(pool), Sites{pool}, pool}
}
