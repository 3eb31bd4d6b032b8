package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// mostKeySets is how many key sets are read: a feed has one or two a year.
const mostKeySets = 64

// KeepFeedKeys stores a key set that was verified, at a site.
func (s *Common) KeepFeedKeys(ctx context.Context, number int64, note []byte) error {
	if _, err := s.pool.Exec(ctx, "insert into feed_keys (number, note) values ($1, $2) on conflict do nothing", number, note); err != nil {
		return fmt.Errorf("storing key set %d: %w", number, plain(err))
	}
	return nil
}

// FeedKeySets reads the key sets that are kept here, the highest number first. Which of
// them counts, the feed's root says (feed.StoredKeySet).
func (s *Common) FeedKeySets(ctx context.Context) ([][]byte, error) {
	rows, err := s.pool.Query(ctx, "select note from "+s.files+"feed_keys order by number desc, note limit $1", mostKeySets)
	var notes [][]byte
	if err == nil {
		notes, err = pgx.CollectRows(rows, pgx.RowTo[[]byte])
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key sets: %w", plain(err))
	}
	return notes, nil
}

// FeedKeys reads the key set of the highest number; ErrNotFound when there is none.
func (s *Common) FeedKeys(ctx context.Context) (number int64, note []byte, err error) {
	err = s.pool.QueryRow(ctx, "select number, note from feed_keys order by number desc, hash limit 1").Scan(&number, &note)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil, fmt.Errorf("reading the key set: %w", ErrNotFound)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("reading the key set: %w", plain(err))
	}
	return number, note, nil
}

// KeySetOffer is a key set that staff has brought to the master, not judged yet.
type KeySetOffer struct {
	ID    int64
	Login string
	Note  []byte
}

// OfferKeySet brings a key set to the master, with its audit entry. Its ocspsyncd
// judges it, and alone moves it into force. It returns false where it is in force, or
// was offered, already.
func (s *Master) OfferKeySet(ctx context.Context, note []byte, act Act) (bool, error) {
	var changed bool
	if err := s.pool.QueryRow(ctx, "select feed_keys_offer($1, $2, $3)", note, act.Why, act.User).Scan(&changed); err != nil {
		return false, fmt.Errorf("offering a key set: %w", plain(err))
	}
	return changed, nil
}

// KeySetOffers reads what waits to be judged, the oldest first.
func (s *Publisher) KeySetOffers(ctx context.Context) ([]KeySetOffer, error) {
	rows, err := s.pool.Query(ctx, "select id, db_role, note from feed_keys_offered order by id limit $1", mostKeySets)
	var offers []KeySetOffer
	if err == nil {
		offers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[KeySetOffer])
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key sets that were offered: %w", plain(err))
	}
	return offers, nil
}

// TakeKeySet moves an offered key set into force, once the root was found to have
// signed it under that number.
func (s *Publisher) TakeKeySet(ctx context.Context, offer, number int64) error {
	if _, err := s.pool.Exec(ctx, "select feed_keys_decide($1, $2, null)", offer, number); err != nil {
		return fmt.Errorf("taking key set %d: %w", number, plain(err))
	}
	return nil
}

// RefuseKeySet throws an offered key set away, and says why in the audit.
func (s *Publisher) RefuseKeySet(ctx context.Context, offer int64, why string) error {
	if _, err := s.pool.Exec(ctx, "select feed_keys_decide($1, null, $2)", offer, why[:min(len(why), 500)]); err != nil {
		return fmt.Errorf("refusing a key set: %w", plain(err))
	}
	return nil
}
