package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// FeedClient is a site that fetched the feed from the master.
type FeedClient struct {
	Site     string
	Position int64 // that it said it has
	SeenAt   time.Time
	Form     int // the newest form of the feed's notes that it reads (feed.Form); 0: it told none
}

// SetFeedPin lets a site fetch the feed by the SHA-256 of its TLS key's
// SubjectPublicKeyInfo. It returns false when it was so already. A revoked site,
// and a key of another site, are refused.
func (s *Sites) SetFeedPin(ctx context.Context, site string, pin [32]byte, act db.Act) (bool, error) {
	var changed bool
	if err := s.pool.QueryRow(ctx, "select responder_feed_pin($1, $2, $3, $4)", site, pin[:], act.Why, act.User).Scan(&changed); err != nil {
		return false, fmt.Errorf("setting the feed pin of site %q: %w", site, pg.Plain(err))
	}
	return changed, nil
}

// FeedPin is whose a TLS key is. Only an active site is let in.
type FeedPin struct {
	Site  string
	State db.ResponderState
}

// FeedPins reads the sites that have a TLS key for the feed, by its pin.
func (s *Publisher) FeedPins(ctx context.Context) (map[[32]byte]FeedPin, error) {
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

// SawFeedClients notes when sites were last seen, and how far they were.
func (s *Publisher) SawFeedClients(ctx context.Context, clients []FeedClient) error {
	batch := &pgx.Batch{}
	for _, g := range clients {
		// A site that was taken off the roster meanwhile is nobody.
		batch.Queue(`insert into feed_client (site, position, seen_at, form) select name, $2, $3, $4 from responder where name = $1
			on conflict (site) do update set position = excluded.position, seen_at = excluded.seen_at, form = excluded.form`, g.Site, g.Position, g.SeenAt, g.Form)
	}
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("noting who fetched the feed: %w", pg.Plain(err))
	}
	return nil
}

// FeedClients reads who was seen, by site.
func (s *Sites) FeedClients(ctx context.Context) (map[string]FeedClient, error) {
	rows, err := s.pool.Query(ctx, "select site, position, seen_at, form from feed_client")
	if err != nil {
		return nil, fmt.Errorf("reading who fetched the feed: %w", pg.Plain(err))
	}
	clients, err := pgx.CollectRows(rows, pgx.RowToStructByPos[FeedClient])
	if err != nil {
		return nil, fmt.Errorf("reading who fetched the feed: %w", pg.Plain(err))
	}
	seen := map[string]FeedClient{}
	for _, g := range clients {
		g.SeenAt = g.SeenAt.UTC()
		seen[g.Site] = g
	}
	return seen, nil
}
