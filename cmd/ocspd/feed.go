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
	mark, err := openMark(f.State, f.Root)
	if err != nil {
		return nil, err
	}
	return func(checkpoint, keys []byte) (db.Head, error) {
		set, err := feed.OpenKeySet(keys, root.Name(), root)
		if err != nil {
			return db.Head{}, err
		}
		switch { // a set that was replaced names keys that may be stolen by now
		case set.Number < mark.kept:
			return db.Head{}, fmt.Errorf("key set %d was replaced by %d: %w", set.Number, mark.kept, feed.ErrForged)
		case set.Number > mark.kept:
			if err := mark.keep(set.Number); err != nil {
				return db.Head{}, err
			}
		}
		c, err := set.OpenCheckpoint(checkpoint)
		if err != nil {
			return db.Head{}, err
		}
		return c.Head()
	}, nil
}

func (f Feed) check(report func(key, problem string)) {
	if f.Root == "" {
		if f.State != "" {
			report("feed.state", "is of no use without feed.root")
		}
		return
	}
	alone := Feed{Root: f.Root}
	if _, err := alone.judge(); err != nil {
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
