package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ocspfleet/db"

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
