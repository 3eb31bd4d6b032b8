package tables

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// MostKeySets is how many key sets are read: a feed has one or two a year.
const MostKeySets = 64

// KeepFeedKeys stores a verified key set, at a site.
func (s *DB) KeepFeedKeys(ctx context.Context, number int64, note []byte) error {
	return s.pool.Do(ctx, fmt.Sprintf("storing key set %d", number), "insert into feed_keys (number, note) values ($1, $2) on conflict do nothing", number, note)
}

// FeedKeySets reads the key sets that are kept here, the highest number first. The feed's root
// decides which of them counts (feed.StoredKeySet).
func (s *DB) FeedKeySets(ctx context.Context) ([][]byte, error) {
	return pg.List(ctx, s.pool, "reading the key sets", pgx.RowTo[[]byte], "select note from "+s.files+"feed_keys order by number desc, note limit $1", MostKeySets)
}

// FeedKeys reads the key set of the highest number; ErrNotFound if there is none.
func (s *DB) FeedKeys(ctx context.Context) (number int64, note []byte, err error) {
	err = s.pool.QueryRow(ctx, "select number, note from feed_keys order by number desc, hash limit 1").Scan(&number, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil, fmt.Errorf("reading the key set: %w", db.ErrNotFound)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("reading the key set: %w", pg.Plain(err))
	}
	return number, note, nil
}
