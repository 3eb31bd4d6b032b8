package keyset

import (
	"context"
	"errors"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/feed"
)

// InForce reads the master's key set and verifies it under the pinned root.
func InForce(ctx context.Context, store *masterdb.DB, cfg *settings.Settings) (*feed.KeySet, error) {
	root, err := cfg.Feed.Verifier()
	if err != nil {
		return nil, err
	}
	set, _, err := feed.StoredKeySet(ctx, store, root.Name(), root)
	if errors.Is(err, db.ErrNotFound) {
		return nil, errors.New("the master has no key set: have the feed root sign one (ocspctl feed keys sign) and bring it in (ocspctl feed keys publish): see docs/feed-keys.md")
	}
	return set, err
}

// Corrections returns the notes of all corrections of the master.
func Corrections(ctx context.Context, store *masterdb.DB) ([][]byte, error) {
	var notes [][]byte
	err := store.Corrections(ctx, func(c db.Correction) error {
		notes = append(notes, c.Note)
		return nil
	})
	return notes, err
}

// Unbelieved counts the master's corrections, and those that no site accepts.
func Unbelieved(ctx context.Context, store *masterdb.DB, cfg *settings.Settings) (all, unbelieved int, err error) {
	set, err := InForce(ctx, store, cfg)
	if err != nil {
		return 0, 0, err
	}
	notes, err := Corrections(ctx, store)
	return len(notes), set.Unbelieved(notes), err
}

// ErrNotAsSigned says that the data read is not what the feed's keys signed.
var ErrNotAsSigned = errors.New("it is not what was signed")

// Forged says whether the data was read and found wrong; false if it could not be read.
func Forged(err error) bool {
	for _, wrong := range []error{feed.ErrForged, feed.ErrEpoch, feed.ErrNewerKeys, ErrNotAsSigned} {
		if errors.Is(err, wrong) {
			return true
		}
	}
	return false
}

// Judged returns exit code 3 for data that was read and found wrong.
func Judged(err error) error {
	if Forged(err) {
		return cli.Wrongf("%v", err)
	}
	return err
}
