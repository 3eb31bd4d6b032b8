package feed

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/note"

	"ocspfleet/db"
)

// CheckedFork is a contradiction, and what it is by the newest key set.
type CheckedFork struct {
	db.Fork
	Result ForkResult
}

// MasterStore is a master's database, whoever reads it.
type MasterStore interface {
	KeySetStore
	ReportedForks(ctx context.Context) ([]db.Fork, error)
	FeedSeal(ctx context.Context, epoch, number int64) (db.Segment, error)
	FeedNote(ctx context.Context) (db.FeedNote, error)
}

// MasterForks judges what sites have handed to the master and nobody has settled.
func MasterForks(ctx context.Context, store MasterStore, root note.Verifier) ([]CheckedFork, error) {
	forks, err := store.ReportedForks(ctx)
	if err != nil || len(forks) == 0 {
		return nil, err
	}
	set, _, err := StoredKeySet(ctx, store, root.Name(), root)
	if err != nil {
		return nil, err
	}
	var judged []CheckedFork
	for _, f := range forks {
		result, err := set.CheckFork(ctx, store, root, f)
		if err != nil {
			return nil, err
		}
		judged = append(judged, CheckedFork{f, result})
	}
	return judged, nil
}

// CheckFork is what the master makes of what a site hands in.
func (k *KeySet) CheckFork(ctx context.Context, store MasterStore, root note.Verifier, f db.Fork) (ForkResult, error) {
	if k.twoSets(root, f.Ours, f.Theirs) {
		return ForkProven, nil
	}
	ours, err := k.statement(f.Ours)
	theirs, err2 := k.statement(f.Theirs)
	switch {
	case k.Bans(f.Ours), k.Bans(f.Theirs), errors.Is(err, ErrEpoch), errors.Is(err2, ErrEpoch):
		return ForkOver, nil
	case err != nil, err2 != nil:
		return ForkClaimed, nil
	case Contradict(ours, theirs) != "":
		return ForkProven, nil
	}
	for _, c := range []*Checkpoint{ours, theirs} {
		if is, err := foreign(ctx, store, c); is || err != nil {
			return ForkProven, err
		}
	}
	return ForkClaimed, nil
}

// foreign says whether a statement is surely not of the history that is kept here. What
// was trimmed, nobody can tell.
func foreign(ctx context.Context, store MasterStore, c *Checkpoint) (bool, error) {
	if c.Number == 0 {
		return false, nil
	}
	g, err := store.FeedSeal(ctx, c.Epoch, c.Number)
	if errors.Is(err, db.ErrNotFound) {
		newest, err := store.FeedNote(ctx)
		if errors.Is(err, db.ErrNotFound) {
			return false, nil
		}
		return err == nil && newest.Epoch == c.Epoch && c.Number > newest.Number, err
	}
	return err == nil && (Hash(g.Hash) != c.Segment || Hash(g.NoteHash) != c.Hash() && Hash(g.NoteHash) != c.Previous), err
}
