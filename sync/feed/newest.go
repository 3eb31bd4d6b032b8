package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ocspfleet/db"

	"golang.org/x/mod/sumdb/note"
)

// ErrOlderEpoch says that a key set with a higher number is of an epoch that another set has
// ended.
var ErrOlderEpoch = errors.New("it goes back to an epoch that is over")

// Follows says why a set cannot replace another one; nil: it can. A number is never used twice,
// and an ended epoch never comes back.
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

// ErrReplaced says that a key set with that number or a higher one is in force.
var ErrReplaced = errors.New("it was replaced")

// NewestKeySet returns the key set in force: the highest of those that the root signed for this
// feed, taken in their order by the rule of Follows. All other notes are ignored. If there is
// no such set, it returns nil and the error of the last note.
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

// KeySetStore is a database with key sets, verified or not.
type KeySetStore interface {
	FeedKeySets(ctx context.Context) ([][]byte, error)
}

// StoredKeySet returns the key set in force among those in a database, and its note;
// db.ErrNotFound if there is none at all.
func StoredKeySet(ctx context.Context, store KeySetStore, origin string, root note.Verifier) (*KeySet, []byte, error) {
	notes, err := store.FeedKeySets(ctx)
	if err != nil {
		return nil, nil, err
	}
	return NewestKeySet(notes, origin, root)
}
