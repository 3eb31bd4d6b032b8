package tables

import (
	"context"
	"fmt"

	"ocspfleet/db/internal/pg"
)

// Try is masterdb.DB.Try for acts at master and site, such as those on logins.
func (s *DB) Try(ctx context.Context, apply bool, f func(*DB) error) error {
	return s.pool.Try(ctx, apply, func(pool *pg.Pool) error { return f(New(pool)) })
}

// DB reads what both databases have: the replicated rows, the feed's signed files, the schema, the
// logins.
type DB struct {
	pool  *pg.Pool
	files string // schema and dot of the signed files to read; empty: found by search_path
}

// Open prepares a pool for a database of either kind.
func Open(ctx context.Context, cfg pg.Config) (*DB, error) {
	pool, err := pg.OpenPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &DB{pool: pool}, nil
}

// New uses an open pool.
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
