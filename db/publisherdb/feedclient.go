package publisherdb

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// FeedPin is the owner of a TLS key. Only an active site has access.
type FeedPin struct {
	Site  string
	State db.ResponderState
}

// FeedPins reads the sites that have a TLS key for the feed, by its pin.
func (s *DB) FeedPins(ctx context.Context) (map[[32]byte]FeedPin, error) {
	rows, err := s.pool.Query(ctx, "select name, state, feed_key_pin from responder where feed_key_pin is not null")
	if err != nil {
		return nil, fmt.Errorf("reading the feed pins: %w", pg.Plain(err))
	}
	pins := map[[32]byte]FeedPin{}
	var whose FeedPin
	var pin []byte
	_, err = pgx.ForEachRow(rows, []any{&whose.Site, &whose.State, &pin}, func() error {
		pins[[32]byte(pin)] = whose
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the feed pins: %w", pg.Plain(err))
	}
	return pins, nil
}

// SawFeedClients records when sites were last seen, and their positions.
func (s *DB) SawFeedClients(ctx context.Context, clients []db.FeedClient) error {
	batch := &pgx.Batch{}
	for _, g := range clients {
		// A site that was removed from the roster in the meantime is ignored.
		batch.Queue(`insert into feed_client (site, position, seen_at, form) select name, $2, $3, $4 from responder where name = $1
			on conflict (site) do update set position = excluded.position, seen_at = excluded.seen_at, form = excluded.form`, g.Site, g.Position, g.SeenAt, g.Form)
	}
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("noting who fetched the feed: %w", pg.Plain(err))
	}
	return nil
}

// ReportedForks is tables.ReportedForks.
func (s *DB) ReportedForks(ctx context.Context) ([]db.Fork, error) {
	return tables.ReportedForks(ctx, s.pool)
}

// ReportFork stores at the master the finding of a site, and says whether two persons have settled
// it. The store's login is in ocsp_publisher.
func (s *DB) ReportFork(ctx context.Context, site, why string, ours, theirs []byte) (settled bool, err error) {
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("keeping a fork that site %q reports", site), "select feed_fork_report($1, $2, $3, $4)", site, why, ours, theirs)
}
