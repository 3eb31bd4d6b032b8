package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/signer"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/lookup"

	"golang.org/x/mod/sumdb/note"
)

// trusted opens key sets under the pinned root, and none that was replaced. Safe for
// concurrent use.
type trusted struct {
	root note.Verifier

	mu   sync.Mutex // guards mark
	mark *keySetMark
}

// trusted is nil where no root is pinned.
func (f Feed) trusted() (*trusted, error) {
	if f.Root == "" {
		return nil, nil
	}
	root, err := note.NewVerifier(f.Root)
	if err != nil {
		return nil, fmt.Errorf("%q: want NAME+HASH+BASE64, as ocspctl feed key generate printed it", f.Root)
	}
	if err := feed.CheckOrigin(root.Name()); err != nil {
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
	switch { // a set that was replaced names keys that may be stolen by now
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

// trust makes what says who is believed by the newest of some key sets under the root: nil
// where none is pinned.
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

// lookup is the master as the responder asks it: nil where that is not wished.
func (f Feed) lookup(t *trusted) signer.Lookup {
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

func (f Feed) check(report func(key, problem string)) {
	switch {
	case f.OnFork != "" && f.OnFork != forkAge && f.OnFork != forkStopGood:
		report("feed.on_fork", fmt.Sprintf("is %q: want %s or %s", f.OnFork, forkAge, forkStopGood))
	case f.OnFork != "" && f.Root == "":
		report("feed.on_fork", "needs feed.root: whose a note is, it tells alone")
	}
	switch {
	case f.AskSocket == "":
	case f.Root == "":
		report("feed.ask_socket", "needs feed.root: answers are believed under it alone")
	case !filepath.IsAbs(f.AskSocket):
		report("feed.ask_socket", "wants an absolute path")
	}
	if f.Root == "" {
		if f.State != "" {
			report("feed.state", "is of no use without feed.root")
		}
		return
	}
	alone := Feed{Root: f.Root}
	if _, err := alone.trusted(); err != nil {
		report("feed.root", err.Error())
		return
	}
	mark, err := openMark(f.State, f.Root)
	if err == nil {
		err = mark.probe()
	}
	if err != nil {
		report("feed.state", err.Error())
	}
}
