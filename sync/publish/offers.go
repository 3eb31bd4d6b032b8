package publish

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"

	"golang.org/x/mod/sumdb/note"
)

// TakeOffers checks the key sets that staff has brought to the master: a set that the root signed
// and that follows the set in force comes into force; any other is discarded with the reason. The
// store's login is in ocsp_publisher.
func TakeOffers(ctx context.Context, store *publisherdb.DB, origin string, root note.Verifier, log *slog.Logger) error {
	offers, err := store.KeySetOffers(ctx)
	if err != nil || len(offers) == 0 {
		return err
	}
	current, _, err := feed.StoredKeySet(ctx, store, origin, root)
	if err != nil && !errors.Is(err, db.ErrNotFound) && !errors.Is(err, feed.ErrForged) && !errors.Is(err, feed.ErrForm) {
		return err
	}
	for _, offer := range offers {
		set, err := feed.OpenKeySet(offer.Note, origin, root)
		if err == nil {
			err = set.Follows(current)
		}
		if err != nil {
			log.ErrorContext(ctx, "key set refused", slog.String("login", offer.Login), slog.String("error", err.Error()))
			if err := store.RefuseKeySet(ctx, offer.ID, err.Error()); err != nil {
				return err
			}
			continue
		}
		if err := store.TakeKeySet(ctx, offer.ID, set.Number); err != nil {
			return err
		}
		current = set
	}
	return nil
}

// offersEvery is how soon a key set from staff is checked.
const offersEvery = 250 * time.Millisecond

// RunOffers checks key sets from staff until ctx ends; it returns nil then. The signers of the
// feed take a new set by themselves.
func RunOffers(ctx context.Context, store *publisherdb.DB, root note.Verifier, log *slog.Logger) error {
	failed := func(text string) {
		log.WarnContext(ctx, "key sets that were brought cannot be judged", slog.String("error", text))
	}
	return health.Every{Pause: health.Always(offersEvery), Failed: failed}.Run(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, feedhttp.CallTimeout)
		defer cancel()
		return TakeOffers(ctx, store, root.Name(), root, log)
	})
}
