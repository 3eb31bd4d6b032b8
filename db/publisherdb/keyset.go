package publisherdb

import (
	"context"
	"fmt"

	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// KeySetOffer is a key set that staff has brought to the master, not checked yet.
type KeySetOffer struct {
	ID    int64
	Login string
	Note  []byte
}

// KeySetOffers reads the offers to be checked, the oldest first.
func (s *DB) KeySetOffers(ctx context.Context) ([]KeySetOffer, error) {
	return pg.List(ctx, s.pool, "reading the key sets that were offered", pgx.RowToStructByPos[KeySetOffer], "select id, db_role, note from feed_keys_offered order by id limit $1", tables.MostKeySets)
}

// TakeKeySet brings an offered key set into force, once the root's signature under that number was
// verified.
func (s *DB) TakeKeySet(ctx context.Context, offer, number int64) error {
	return s.pool.Do(ctx, fmt.Sprintf("taking key set %d", number), "select feed_keys_decide($1, $2, null)", offer, number)
}

// RefuseKeySet discards an offered key set, and writes the reason into the audit.
func (s *DB) RefuseKeySet(ctx context.Context, offer int64, why string) error {
	return s.pool.Do(ctx, "refusing a key set", "select feed_keys_decide($1, null, $2)", offer, why[:min(len(why), 500)])
}
