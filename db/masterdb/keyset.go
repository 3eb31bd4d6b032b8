package masterdb

import (
	"context"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// OfferKeySet brings a key set to the master, with its audit entry. Only the master's ocspsyncd
// checks it and brings it into force. OfferKeySet returns false if the set is in force, or was
// offered, already.
func (s *DB) OfferKeySet(ctx context.Context, note []byte, act db.Act) (bool, error) {
	return pg.Value[bool](ctx, s.pool, "offering a key set", "select feed_keys_offer($1, $2, $3)", note, act.Why, act.User)
}
