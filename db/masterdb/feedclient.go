package masterdb

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// SetFeedPin lets a site fetch the feed by the SHA-256 of its TLS key's SubjectPublicKeyInfo. It
// returns false if nothing had to change. A revoked site, and a key of another site, are refused.
func (s *Sites) SetFeedPin(ctx context.Context, site string, pin [32]byte, act db.Act) (bool, error) {
	return pg.Value[bool](ctx, s.pool, fmt.Sprintf("setting the feed pin of site %q", site), "select responder_feed_pin($1, $2, $3, $4)", site, pin[:], act.Why, act.User)
}

// FeedClients reads the sites that fetched the feed, by site.
func (s *Sites) FeedClients(ctx context.Context) (map[string]db.FeedClient, error) {
	rows, err := s.pool.Query(ctx, "select site, position, seen_at, form from feed_client")
	if err != nil {
		return nil, fmt.Errorf("reading who fetched the feed: %w", pg.Plain(err))
	}
	clients, err := pgx.CollectRows(rows, pgx.RowToStructByPos[db.FeedClient])
	if err != nil {
		return nil, fmt.Errorf("reading who fetched the feed: %w", pg.Plain(err))
	}
	seen := map[string]db.FeedClient{}
	for _, g := range clients {
		g.SeenAt = g.SeenAt.UTC()
		seen[g.Site] = g
	}
	return seen, nil
}
