package main

import (
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// judge makes what judges a checkpoint by a key set under the pinned root: nil
// where none is pinned. It is for one goroutine.
func (f Feed) judge() (func(checkpoint, keys []byte) (db.Head, error), error) {
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
	var newest int64 // a set that was replaced names keys that may be stolen by now
	return func(checkpoint, keys []byte) (db.Head, error) {
		set, err := feed.OpenKeySet(keys, root.Name(), root)
		if err != nil {
			return db.Head{}, err
		}
		if set.Number < newest {
			return db.Head{}, fmt.Errorf("key set %d was replaced by %d: %w", set.Number, newest, feed.ErrForged)
		}
		newest = set.Number
		c, err := set.OpenCheckpoint(checkpoint)
		if err != nil {
			return db.Head{}, err
		}
		return c.Head()
	}, nil
}
