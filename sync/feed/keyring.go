package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db"

	"golang.org/x/mod/sumdb/note"
)

// keyring is what the master signs with: its keys, and the key set in force. The
// set is read anew while the master runs, so that a rotation or a ban needs no
// restart.
type keyring struct {
	store KeySetStore
	root  note.Verifier // nil: the set stays as it was given
	held  []*Key        // the one to be preferred last
	set   *KeySet
	uses  func(*KeySet) []FeedKey // those of a set that sign what is signed here
	due   time.Time               // when the set is looked for again
	sets  keySets
}

// keysEvery is how often the master looks for a new key set.
const keysEvery = 500 * time.Millisecond

func newKeyring(store KeySetStore, root note.Verifier, set *KeySet, held ...*Key) keyring {
	r := keyring{store: store, root: root, set: set, uses: func(k *KeySet) []FeedKey { return k.Keys }}
	for _, key := range held {
		if key != nil {
			r.held = append(r.held, key)
		}
	}
	return r
}

// renew takes a newer key set that was stored and that the root signed: the highest of
// those that follow the one in force. What else is stored blocks nothing. It says
// whether there was one.
func (r *keyring) renew(ctx context.Context, now time.Time) (bool, error) {
	if r.root == nil || now.Before(r.due) {
		return false, nil
	}
	set, _, err := r.sets.newest(ctx, r.store, r.set.Origin, r.root)
	if errors.Is(err, db.ErrNotFound) || errors.Is(err, ErrForged) || errors.Is(err, ErrForm) {
		err = nil // none that counts
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

// names says whether the set in force names a key that is held.
func (r *keyring) names() bool {
	return slices.ContainsFunc(r.held, func(key *Key) bool { return r.entry(key) != nil })
}

func (r *keyring) entry(key *Key) *FeedKey {
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

// signer is the key for what the head says: of those whose time it is, the last.
func (r *keyring) signer(epoch int64, asOf time.Time) (*Key, error) {
	if epoch != r.set.Epoch {
		return nil, fmt.Errorf("%w: the master's is %d, key set %d says %d: have the feed root sign one for it", ErrEpoch, epoch, r.set.Number, r.set.Epoch)
	}
	for _, key := range slices.Backward(r.held) {
		if e := r.entry(key); e != nil && !asOf.Before(e.From) && asOf.Before(e.Until) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("key set %d of %s names none of the feed keys held here for %s: have the feed root sign one that does", r.set.Number, r.set.Origin, stamp(asOf))
}
