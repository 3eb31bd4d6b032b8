package masterdb

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"
)

// KeySetOffer is a key set that staff has brought to the master, not judged yet.
type KeySetOffer struct {
	ID    int64
	Login string
	Note  []byte
}

// OfferKeySet brings a key set to the master, with its audit entry. Its ocspsyncd
// judges it, and alone moves it into force. It returns false where it is in force, or
// was offered, already.
func (s *DB) OfferKeySet(ctx context.Context, note []byte, act db.Act) (bool, error) {
	var changed bool
	if err := s.pool.QueryRow(ctx, "select feed_keys_offer($1, $2, $3)", note, act.Why, act.User).Scan(&changed); err != nil {
		return false, fmt.Errorf("offering a key set: %w", pg.Plain(err))
	}
	return changed, nil
}

// KeySetOffers reads what waits to be judged, the oldest first.
func (s *Publisher) KeySetOffers(ctx context.Context) ([]KeySetOffer, error) {
	rows, err := s.pool.Query(ctx, "select id, db_role, note from feed_keys_offered order by id limit $1", tables.MostKeySets)
	var offers []KeySetOffer
	if err == nil {
		offers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[KeySetOffer])
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key sets that were offered: %w", pg.Plain(err))
	}
	return offers, nil
}

// TakeKeySet moves an offered key set into force, once the root was found to have
// signed it under that number.
func (s *Publisher) TakeKeySet(ctx context.Context, offer, number int64) error {
	if _, err := s.pool.Exec(ctx, "select feed_keys_decide($1, $2, null)", offer, number); err != nil {
		return fmt.Errorf("taking key set %d: %w", number, pg.Plain(err))
	}
	return nil
}

// RefuseKeySet throws an offered key set away, and says why in the audit.
func (s *Publisher) RefuseKeySet(ctx context.Context, offer int64, why string) error {
	if _, err := s.pool.Exec(ctx, "select feed_keys_decide($1, null, $2)", offer, why[:min(len(why), 500)]); err != nil {
		return fmt.Errorf("refusing a key set: %w", pg.Plain(err))
	}
	return nil
}
