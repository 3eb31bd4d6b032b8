package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/mod/sumdb/note"
)

// ErrOlderEpoch says that a key set of a higher number speaks of an epoch that another
// one has ended.
var ErrOlderEpoch = errors.New("it goes back to an epoch that is over")

// Follows says why a set cannot replace another one; nil: it can. A number never comes
// twice, and an epoch that is over never comes back.
func (k *KeySet) Follows(old *KeySet) error {
	switch {
	case old == nil:
		return nil
	case k.Number <= old.Number:
		return fmt.Errorf("key set %d: %w by %d", k.Number, ErrReplaced, old.Number)
	case k.Epoch < old.Epoch:
		return fmt.Errorf("key set %d: %w: its epoch is %d, that of key set %d is %d", k.Number, ErrOlderEpoch, k.Epoch, old.Number, old.Epoch)
	}
	return nil
}

// ErrReplaced says that a key set of that number or a higher one is in force.
var ErrReplaced = errors.New("it was replaced")

// NewestKeySet is the key set in force: of those that the root signed for this feed,
// the highest, taken up in their order as Follows says. Whatever else stands among the
// notes counts for nothing. It returns nil, and what is wrong with the last note, where
// there is none.
func NewestKeySet(notes [][]byte, origin string, root note.Verifier) (*KeySet, []byte, error) {
	type opened struct {
		set    *KeySet
		signed []byte
	}
	var all []opened
	err := fmt.Errorf("reading the key set: %w", db.ErrNotFound)
	for _, signed := range notes {
		set, wrong := OpenKeySet(signed, origin, root)
		if wrong != nil {
			err = wrong
			continue
		}
		all = append(all, opened{set, signed})
	}
	slices.SortStableFunc(all, func(a, b opened) int { return int(min(1, max(-1, a.set.Number-b.set.Number))) })
	var newest opened
	for _, o := range all {
		if o.set.Follows(newest.set) == nil {
			newest = o
		}
	}
	if newest.set == nil {
		return nil, nil, err
	}
	return newest.set, newest.signed, nil
}

// KeySetStore is a database that holds key sets, whatever they are.
type KeySetStore interface {
	FeedKeySets(ctx context.Context) ([][]byte, error)
}

// StoredKeySet is the key set in force among those that a database holds, and its note;
// db.ErrNotFound where it holds none at all.
func StoredKeySet(ctx context.Context, store KeySetStore, origin string, root note.Verifier) (*KeySet, []byte, error) {
	notes, err := store.FeedKeySets(ctx)
	if err != nil {
		return nil, nil, err
	}
	return NewestKeySet(notes, origin, root)
}

// TakeOffers judges the key sets that staff has brought to the master: what the root
// signed, and what follows the set in force, is moved into force, and anything else is
// thrown away with the reason. The store's login is in ocsp_publisher.
func TakeOffers(ctx context.Context, store *masterdb.Publisher, origin string, root note.Verifier, log *slog.Logger) error {
	offers, err := store.KeySetOffers(ctx)
	if err != nil || len(offers) == 0 {
		return err
	}
	current, _, err := StoredKeySet(ctx, store, origin, root)
	if err != nil && !errors.Is(err, db.ErrNotFound) && !errors.Is(err, ErrForged) && !errors.Is(err, ErrForm) {
		return err
	}
	for _, offer := range offers {
		set, err := OpenKeySet(offer.Note, origin, root)
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

// offersEvery is how soon a key set that staff has brought is judged.
const offersEvery = 250 * time.Millisecond

// RunOffers judges what staff brings, until ctx ends; it returns nil then. Who signs the
// feed takes a new set up by itself.
func RunOffers(ctx context.Context, store *masterdb.Publisher, root note.Verifier, log *slog.Logger) error {
	ticker := time.NewTicker(offersEvery)
	defer ticker.Stop()
	var trouble trouble
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := TakeOffers(call, store, root.Name(), root, log)
		cancel()
		text := ""
		if err != nil {
			text = err.Error()
		}
		if ctx.Err() == nil && trouble.set(text) && err != nil {
			log.WarnContext(ctx, "key sets that were brought cannot be judged", slog.String("error", text))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// keySets remembers what was found in a database, so that the same notes are verified
// once. For one goroutine.
type keySets struct {
	notes  [][]byte
	set    *KeySet
	signed []byte
	err    error
}

func (k *keySets) newest(ctx context.Context, store KeySetStore, origin string, root note.Verifier) (*KeySet, []byte, error) {
	notes, err := store.FeedKeySets(ctx)
	if err != nil {
		return nil, nil, err
	}
	if k.notes == nil || !slices.EqualFunc(notes, k.notes, bytes.Equal) {
		k.notes = notes
		k.set, k.signed, k.err = NewestKeySet(notes, origin, root)
	}
	return k.set, k.signed, k.err
}
