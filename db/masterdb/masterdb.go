package masterdb

import (
	"context"

	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// Try calls f, which changes rows at the master through its DB, in one transaction. With apply it
// is committed; without apply it is rolled back, after the rules that run at commit (the hourly
// limit) were checked. So a plan passes exactly the checks of the act: what Try allows succeeds
// with apply, and f returns what would be there. Numbers (of requests) and times are those of now:
// with apply they differ.
//
// f must only write rows, at most 1,000 of them, since every other writer waits for the one head.
// Effects beyond the transaction (slots, sessions, the DNS, files, a CA's signature) are real in
// any case: the SQL functions with such effects refuse to be tried, and have a twin that only
// returns what they would do.
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
