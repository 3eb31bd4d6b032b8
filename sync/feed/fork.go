package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/mod/sumdb/note"
)

// ForkResult is what the newest key set makes of two statements that a site found to
// contradict each other.
type ForkResult string

const (
	// ForkProven: keys of the set signed both, and they contradict each other, or the
	// history of this master. A key was stolen, or two masters publish.
	ForkProven ForkResult = "proven"
	// ForkClaimed: the statements do not show it; it is the site's word.
	ForkClaimed ForkResult = "claimed"
	// ForkOver: a key that signed one of them is banned, or its epoch is over.
	ForkOver ForkResult = "over"
)

// WhyBehind is why a site shows the master what the master signed and has no more: it was
// restored from an old copy, or a standby that lacked it was promoted.
const WhyBehind = "the master shows an older history than it signed"

// CheckedFork is a contradiction, and what it is by the newest key set.
type CheckedFork struct {
	db.Fork
	Result ForkResult
}

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

// twoSets says whether these are two key sets of the number in force, which the root
// alone can have signed: a higher one ends that.
func (k *KeySet) twoSets(root note.Verifier, ours, theirs []byte) bool {
	a, err := OpenKeySet(ours, k.Origin, root)
	b, err2 := OpenKeySet(theirs, k.Origin, root)
	return err == nil && err2 == nil && a.Number == k.Number && b.Number == k.Number && a.Text() != b.Text()
}

// Forked says whether a contradiction that a site found counts: the set admits both
// statements now.
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

// checkFork is what the master makes of what a site hands in; foreign says that a
// statement is surely not one of this master's history.
func (k *KeySet) checkFork(root note.Verifier, f db.Fork, foreign func(*Checkpoint) (bool, error)) (ForkResult, error) {
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
		if is, err := foreign(c); is || err != nil {
			return ForkProven, err
		}
	}
	return ForkClaimed, nil
}

// MasterForks judges what sites have handed to the master and nobody has settled.
func MasterForks(ctx context.Context, store masterdb.Reader, root note.Verifier) ([]CheckedFork, error) {
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
		result, err := set.checkFork(root, f, func(c *Checkpoint) (bool, error) { return foreign(ctx, store, c) })
		if err != nil {
			return nil, err
		}
		judged = append(judged, CheckedFork{f, result})
	}
	return judged, nil
}

// foreign says whether a statement is surely not of the history that is kept here. What
// was trimmed, nobody can tell.
func foreign(ctx context.Context, store masterdb.Reader, c *Checkpoint) (bool, error) {
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

// ForkStore is a site's database.
type ForkStore interface {
	KeySetStore
	Forks(ctx context.Context) ([]db.Fork, error)
}

// SiteForks are the contradictions that a site has found and that count now.
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

// ForkReports takes the evidence of sites at the master, and says while a proof stands.
// Run is called once; the rest is safe for concurrent use.
type ForkReports struct {
	store   *masterdb.Publisher
	root    note.Verifier
	log     *slog.Logger
	trouble trouble
	lost    trouble
}

// forksEvery is how often what sites handed in is judged anew.
const forksEvery = 2 * time.Second

// NewForkReports takes it in by a login in ocsp_publisher.
func NewForkReports(store *masterdb.Publisher, root note.Verifier, log *slog.Logger) *ForkReports {
	return &ForkReports{store: store, root: root, log: log}
}

// Trouble says which forks are proven and open; empty: none is.
func (d *ForkReports) Trouble() string { return d.trouble.get() }

// Lost says what sites have that was signed for this master's epoch and that it has not,
// by a key that counts now; empty: nothing. What is signed meanwhile would be a second
// history.
func (d *ForkReports) Lost() string { return d.lost.get() }

// report keeps what a site has found, and says whether two persons have settled it. That
// the master is behind counts while it is: a site may hear news from a peer first.
func (d *ForkReports) report(ctx context.Context, site string, r ForkReport) (settled bool, err error) {
	if r.Why == WhyBehind {
		set, _, err := StoredKeySet(ctx, d.store, d.root.Name(), d.root)
		if err != nil {
			return false, err
		}
		result, err := set.checkFork(d.root, db.Fork{Ours: r.Ours, Theirs: r.Theirs}, func(c *Checkpoint) (bool, error) { return foreign(ctx, d.store.Reader, c) })
		if err != nil || result != ForkProven {
			return true, err
		}
	}
	return d.store.ReportFork(ctx, site, r.Why, r.Ours, r.Theirs)
}

// Run judges until ctx ends; it returns nil then.
func (d *ForkReports) Run(ctx context.Context) error {
	ticker := time.NewTicker(forksEvery)
	defer ticker.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		text, lost, err := d.check(call)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			d.lost.set(lost)
		}
		if err == nil && d.trouble.set(text) && text != "" { // a database that is away others tell of
			d.log.ErrorContext(ctx, "feed is forked", slog.String("what", text))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (d *ForkReports) check(ctx context.Context) (text, lost string, err error) {
	forks, err := MasterForks(ctx, d.store.Reader, d.root)
	if err != nil {
		return "", "", err
	}
	for _, f := range forks {
		if f.Result != ForkProven {
			continue
		}
		if text == "" {
			text = fmt.Sprintf("a key of this master signed two histories: site %s showed %s (fork %d); a key was stolen, or two masters publish: docs/feed-keys.md", f.From, f.Why, f.ID)
		}
		if f.Why == WhyBehind && lost == "" {
			lost = fmt.Sprintf("site %s has what this master signed and lost (fork %d): it was restored from an old copy, or promoted too early; ocspctl fleet lost says what and how it comes back, then begin a new epoch (docs/operations.md), or ban the key if it was stolen", f.From, f.ID)
		}
	}
	return text, lost, nil
}
