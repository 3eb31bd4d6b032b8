package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/ops/config"
	"ocspfleet/signer"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/lookup"

	"golang.org/x/mod/sumdb/note"
)

// trusted opens key sets under the pinned root, but none that was replaced. Safe for concurrent
// use.
type trusted struct {
	root note.Verifier

	mu   sync.Mutex // guards mark
	mark *keySetMark
}

// openTrusted returns nil where no root is pinned.
func openTrusted(f config.OcspdFeed) (*trusted, error) {
	if f.Root == "" {
		return nil, nil
	}
	root, err := config.ParseRoot(f.Root)
	if err != nil {
		return nil, err
	}
	mark, err := openMark(f.State, f.Root)
	if err != nil {
		return nil, err
	}
	return &trusted{root: root, mark: mark}, nil
}

func (t *trusted) open(keys []byte) (*feed.KeySet, error) {
	set, err := feed.OpenKeySet(keys, t.root.Name(), t.root)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch { // a replaced set may name keys that are stolen by now
	case set.Number < t.mark.kept:
		return nil, fmt.Errorf("key set %d was replaced by %d: %w", set.Number, t.mark.kept, feed.ErrForged)
	case set.Epoch < t.mark.epoch:
		return nil, fmt.Errorf("key set %d is of epoch %d, key set %d was of %d: %w: %w", set.Number, set.Epoch, t.mark.kept, t.mark.epoch, feed.ErrForged, feed.ErrOlderEpoch)
	case set.Number > t.mark.kept:
		if err := t.mark.keep(set.Number, set.Epoch); err != nil {
			return nil, err
		}
	}
	return set, nil
}

var errNoKeys = errors.New("no key set has reached this site: set feed.root in ocspsyncd.yaml, too, and see that the master has one (ocspctl feed keys publish)")

// trust returns the function that makes an index.Trust from the newest of some key sets under
// the root: nil if no root is pinned.
func (t *trusted) trust() func(keys [][]byte) (index.Trust, error) {
	if t == nil {
		return nil
	}
	return func(keys [][]byte) (index.Trust, error) {
		if len(keys) == 0 {
			return index.Trust{}, errNoKeys
		}
		_, newest, err := feed.NewestKeySet(keys, t.root.Name(), t.root)
		if err != nil {
			return index.Trust{}, err
		}
		set, err := t.open(newest)
		if err != nil {
			return index.Trust{}, err
		}
		trust := index.Trust{Corrections: set.OpenCorrections}
		if len(set.Keys) > 0 {
			trust.Checkpoint = func(signed []byte) (db.Head, error) {
				c, err := set.OpenCheckpoint(signed)
				if err != nil {
					return db.Head{}, err
				}
				return c.Head()
			}
		}
		return trust, nil
	}
}

// lookupOf returns the responder's lookup at the master: nil if it is not configured.
func lookupOf(f config.OcspdFeed, t *trusted) signer.Lookup {
	if t == nil || f.AskSocket == "" {
		return nil
	}
	return lookupOfMaster{lookup.New(f.AskSocket, t.open, time.Now)}
}

type lookupOfMaster struct{ *lookup.Client }

func (l lookupOfMaster) Ask(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (signer.LookupAnswer, error) {
	answer, err := l.Client.Ask(ctx, issuer, serial, at)
	if err != nil {
		return signer.LookupAnswer{}, err
	}
	return signer.LookupAnswer{Issued: answer.Issued, Status: answer.Status, AsOf: answer.AsOf, Until: answer.Until}, nil
}

// checkMark checks the file with the number of the highest key set.
func checkMark(f config.OcspdFeed, report func(key, problem string)) {
	if _, err := config.ParseRoot(f.Root); err != nil {
		return // reported already, or none is configured
	}
	mark, err := openMark(f.State, f.Root)
	if err == nil {
		err = mark.probe()
	}
	if err != nil {
		report("feed.state", err.Error())
	}
}
