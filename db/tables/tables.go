package tables

import (
	"context"
	"fmt"

	"ocspfleet/db/internal/pg"
)

// Try is masterdb.DB.Try for what is done at either end, as logins are.
func (s *DB) Try(ctx context.Context, apply bool, f func(*DB) error) error {
	return s.pool.Try(ctx, apply, func(pool *pg.Pool) error { return f(New(pool)) })
}

// DB reads what both databases hold: the replicated rows, the feed's signed files, the
// schema, the logins.
type DB struct {
	pool  *pg.Pool
	files string // schema and dot of the signed files that are read; empty: where search_path finds them
}

// Open prepares a pool for what both databases hold.
func Open(ctx context.Context, cfg pg.Config) (*DB, error) {
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &DB{pool: pool}, nil
}

// New reads by a pool that is open.
func New(pool *pg.Pool) *DB { return &DB{pool: pool} }

// Close ends all connections.
func (s *DB) Close() { s.pool.Close() }

// Ping says whether the database answers.
func (s *DB) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("reaching the database: %w", pg.Plain(err))
	}
	return nil
}

// Config says how to reach a database.
type Config = pg.Config
