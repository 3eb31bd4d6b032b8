package sitedb

import (
	"context"

	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// DB is a site's database.
type DB struct {
	*tables.DB
	pool *pg.Pool
}

// Open prepares a pool for a site's database.
func Open(ctx context.Context, cfg pg.Config) (*DB, error) {
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &DB{tables.New(pool), pool}, nil
}
