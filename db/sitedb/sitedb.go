// Package sitedb is a site's database: what ocspsyncd writes (Apply, Replace, the
// subscription) and what ocspd reads (ReadTx, Delta, ListenHead). It is not called site, as
// half the project's variables are.
//
// It believes no rows: a step of the feed was verified before it comes here, and what may
// come after what is held, db.Adoption says, for each row, before anything is committed.
//
// Read sitedb.go first, then apply.go and applyadopt.go, replace.go and replaceadopt.go with
// their two sources (feedseed.go, masterseed.go), follow.go.
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
