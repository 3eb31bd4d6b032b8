package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"ocspfleet/db"
	"ocspfleet/signer"
	"ocspfleet/sync/feed"
)

// trusted opens key sets under the pinned root, and remembers the highest number: a set
// that was replaced names keys that may be stolen by now. Safe for concurrent use.
type trusted struct {
	root note.Verifier

	mu     sync.Mutex // guards newest
	newest int64
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
	return &trusted{root: root}, nil
}

func (t *trusted) open(keys []byte) (*feed.KeySet, error) {
	set, err := feed.OpenKeySet(keys, t.root.Name(), t.root)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if set.Number < t.newest {
		return nil, fmt.Errorf("key set %d was replaced by %d: %w", set.Number, t.newest, feed.ErrForged)
	}
	t.newest = set.Number
	return set, nil
}

// judge makes what judges a checkpoint by a key set under the root: nil where none is
// pinned.
func (t *trusted) judge() func(checkpoint, keys []byte) (db.Head, error) {
	if t == nil {
		return nil
	}
	return func(checkpoint, keys []byte) (db.Head, error) {
		set, err := t.open(keys)
		if err != nil {
			return db.Head{}, err
		}
		c, err := set.OpenCheckpoint(checkpoint)
		if err != nil {
			return db.Head{}, err
		}
		return c.Head()
	}
}

// ahead is the master as the responder asks it: nil where that is not wished.
func (f Feed) ahead(t *trusted) signer.Ahead {
	if t == nil || f.AskSocket == "" {
		return nil
	}
	return ahead{feed.NewInquirer(f.AskSocket, t.open, time.Now)}
}

type ahead struct{ *feed.Inquirer }

func (a ahead) Ask(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (signer.Word, error) {
	answer, err := a.Inquirer.Ask(ctx, issuer, serial, at)
	if err != nil {
		return signer.Word{}, err
	}
	return signer.Word{Issued: answer.Issued, Status: answer.Status, AsOf: answer.AsOf, Until: answer.Until}, nil
}
