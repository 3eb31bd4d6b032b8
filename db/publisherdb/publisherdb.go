package publisherdb

import (
	"context"

	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// DB is the master's database for its publisher.
type DB struct {
	*tables.DB
	pool *pg.Pool
}

// Open prepares a pool for the master's database.
func Open(ctx context.Context, cfg pg.Config) (*DB, error) {
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &DB{tables.New(pool), pool}, nil
}
