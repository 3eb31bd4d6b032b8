package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"

	"golang.org/x/mod/sumdb/note"
)

// keyring is what the master signs with: its keys, and the key set in force. The set is read again
// while the master runs, so that a rotation or a ban needs no restart.
type keyring struct {
	store feed.KeySetStore
	root  note.Verifier // nil: the set never changes
	held  []*feed.Key   // the preferred one last
	set   *feed.KeySet
	uses  func(*feed.KeySet) []feed.FeedKey // the keys of a set that sign what this keyring signs
	due   time.Time                         // when to look for a new set
	sets  keySets
}

// keysEvery is how often the master looks for a new key set.
const keysEvery = 500 * time.Millisecond

func newKeyring(store feed.KeySetStore, root note.Verifier, set *feed.KeySet, held ...*feed.Key) keyring {
	r := keyring{store: store, root: root, set: set, uses: func(k *feed.KeySet) []feed.FeedKey { return k.Keys }}
	for _, key := range held {
		if key != nil {
			r.held = append(r.held, key)
		}
	}
	return r
}

// renew takes a newer stored key set that the root signed: the highest of those that follow the
// one in force. Other stored sets block nothing. It says whether there was one.
func (r *keyring) renew(ctx context.Context, now time.Time) (bool, error) {
	if r.root == nil || now.Before(r.due) {
		return false, nil
	}
	set, _, err := r.sets.newest(ctx, r.store, r.set.Origin, r.root)
	if errors.Is(err, db.ErrNotFound) || errors.Is(err, feed.ErrForged) || errors.Is(err, feed.ErrForm) {
		err = nil // no stored set counts
	}
	if err != nil {
		return false, err
	}
	r.due = now.Add(keysEvery)
	if set == nil || set.Follows(r.set) != nil {
		return false, nil
	}
	r.set = set
	return true, nil
}

// names says whether the set in force names a key of this keyring.
func (r *keyring) names() bool {
	return slices.ContainsFunc(r.held, func(key *feed.Key) bool { return r.entry(key) != nil })
}

func (r *keyring) entry(key *feed.Key) *feed.FeedKey {
	if key.Name() != r.set.Origin {
		return nil
	}
	for _, named := range r.uses(r.set) {
		if named.Verifier == key.Verifier() && named.Retired == nil {
			return &named
		}
	}
	return nil
}

// signer returns the key for a head's epoch and time: of those in their time, the last.
func (r *keyring) signer(epoch int64, asOf time.Time) (*feed.Key, error) {
	if epoch != r.set.Epoch {
		return nil, fmt.Errorf("%w: the master's is %d, key set %d says %d: have the feed root sign one for it", feed.ErrEpoch, epoch, r.set.Number, r.set.Epoch)
	}
	for _, key := range slices.Backward(r.held) {
		if e := r.entry(key); e != nil && !asOf.Before(e.From) && asOf.Before(e.Until) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("key set %d of %s names none of the feed keys held here for %s: have the feed root sign one that does", r.set.Number, r.set.Origin, feed.Stamp(asOf))
}

// keySets remembers the sets of a database, so that the same notes are verified once. For one
// goroutine.
type keySets struct {
	notes  [][]byte
	set    *feed.KeySet
	signed []byte
	err    error
}

func (k *keySets) newest(ctx context.Context, store feed.KeySetStore, origin string, root note.Verifier) (*feed.KeySet, []byte, error) {
	notes, err := store.FeedKeySets(ctx)
	if err != nil {
		return nil, nil, err
	}
	if k.notes == nil || !slices.EqualFunc(notes, k.notes, bytes.Equal) {
		k.notes = notes
		k.set, k.signed, k.err = feed.NewestKeySet(notes, origin, root)
	}
	return k.set, k.signed, k.err
}
