package feed

import (
	"context"
	"slices"

	"ocspfleet/db"

	"golang.org/x/mod/sumdb/note"
)

// ForkResult is the result of checking, by the newest key set, two statements that a site found
// to contradict each other.
type ForkResult string

const (
	// ForkProven: keys of the set signed both, and they contradict each other or the history of
	// this master. A key was stolen, or two masters publish.
	ForkProven ForkResult = "proven"
	// ForkClaimed: the statements do not prove it; only the site claims it.
	ForkClaimed ForkResult = "claimed"
	// ForkOver: a key that signed one of them is banned, or its epoch is over.
	ForkOver ForkResult = "over"
)

// WhyBehind is the reason in a report about a master that signed more than it has now: it was
// restored from an old copy, or a standby that lagged was promoted.
const WhyBehind = "the master shows an older history than it signed"

// statement opens a checkpoint or a snapshot's manifest.
func (k *KeySet) statement(signed []byte) (*Checkpoint, error) {
	c, err := k.OpenCheckpoint(signed)
	if err == nil {
		return c, nil
	}
	if s, wrong := k.OpenSnapshot(signed); wrong == nil {
		return &s.Checkpoint, nil
	}
	return nil, err
}

// twoSets says whether these are two different key sets with the number in force. Only the root
// can have signed both; a set with a higher number ends that.
func (k *KeySet) twoSets(root note.Verifier, ours, theirs []byte) bool {
	a, err := OpenKeySet(ours, k.Origin, root)
	b, err2 := OpenKeySet(theirs, k.Origin, root)
	return err == nil && err2 == nil && a.Number == k.Number && b.Number == k.Number && a.Text() != b.Text()
}

// Forked says whether a contradiction that a site found counts: the set now admits both
// statements.
func (k *KeySet) Forked(root note.Verifier, f db.Fork) bool {
	_, err := k.statement(f.Ours)
	_, err2 := k.statement(f.Theirs)
	return err == nil && err2 == nil || k.twoSets(root, f.Ours, f.Theirs)
}

// Contradict says how two statements of one epoch cannot both be true; empty: they can.
func Contradict(a, b *Checkpoint) string {
	if a.Position > b.Position || a.Position == b.Position && a.AsOf.After(b.AsOf) {
		a, b = b, a
	}
	switch {
	case a.Epoch != b.Epoch:
	case a.Number == b.Number && a.Segment != b.Segment:
		return "two segments of one number"
	case a.Position == b.Position && !slices.Equal(a.Tallies, b.Tallies):
		return "two contents of one position"
	case a.AuditCount == b.AuditCount && a.AuditHash != b.AuditHash:
		return "two audits of one length"
	case b.AsOf.Before(a.AsOf):
		return "a position that comes after another, and is older"
	case b.AuditCount < a.AuditCount:
		return "an audit that goes back"
	}
	return ""
}

// ForkStore is a site's database.
type ForkStore interface {
	KeySetStore
	Forks(ctx context.Context) ([]db.Fork, error)
}

// SiteForks returns the contradictions that a site has found and that count now.
func SiteForks(ctx context.Context, store ForkStore, root note.Verifier) ([]db.Fork, error) {
	forks, err := store.Forks(ctx)
	if err != nil || len(forks) == 0 {
		return nil, err
	}
	set, _, err := StoredKeySet(ctx, store, root.Name(), root)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(forks, func(f db.Fork) bool { return !set.Forked(root, f) }), nil
}
