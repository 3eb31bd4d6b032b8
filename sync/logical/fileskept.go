package logical

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// takeKeys takes the newest key set that has come here, either way.
func (f *Files) takeKeys(ctx context.Context) error {
	notes, err := f.cfg.Local.FeedKeySets(ctx)
	if err != nil {
		return err
	}
	published, err := f.cfg.Local.Files().FeedKeySets(ctx)
	if err != nil {
		return err
	}
	if notes = append(notes, published...); f.remembers(notes) {
		return nil
	}
	f.notes = notes
	set, _, err := feed.NewestKeySet(notes, f.cfg.Root.Name(), f.cfg.Root)
	if err != nil || set.Follows(f.keys) != nil {
		return nil // a set that is not the root's is ignored
	}
	f.mu.Lock()
	f.keys = set
	f.mu.Unlock()
	// The new set checks what is remembered: new statements are not compared with what the set
	// does not admit, and such a statement is no evidence.
	f.seen, f.forked = nil, ""
	if f.stood.Checkpoint != nil {
		if _, err := set.OpenCheckpoint(f.stood.note); err != nil {
			f.stood = verified{}
			f.cfg.Latest.Clear()
		}
	}
	return nil
}

// read verifies the last checkpoint of the files' subscription, and gives it to the relay.
func (f *Files) read(ctx context.Context) error {
	n, err := f.cfg.Local.Files().FeedNote(ctx)
	if errors.Is(err, db.ErrNotFound) || err == nil && f.keys == nil {
		return nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(n.Note, f.seen) {
		if err := f.take(ctx, n.Note); err != nil {
			return err
		}
		f.seen = n.Note
	}
	if f.stood.Checkpoint != nil && !f.stood.AsOf.Before(f.wanted) {
		f.wanted = time.Time{}
	}
	return nil
}

// take checks one checkpoint against those verified before it.
func (f *Files) take(ctx context.Context, signed []byte) error {
	f.wrong = ""
	c, err := f.keys.OpenCheckpoint(signed)
	if err != nil {
		f.wrong = "the newest checkpoint is not believed: " + err.Error()
		return nil
	}
	next := verified{c, signed}
	if f.stood.Checkpoint == nil { // this process knows nothing yet: the segments may
		if f.stood, err = f.seal(ctx, c.Epoch, c.Number+1); err != nil {
			return err
		}
		if now, err := f.cfg.Local.Files().FeedNote(ctx); err != nil || !bytes.Equal(now.Note, signed) {
			f.stood = verified{} // both came in the meantime
			return err
		}
	}
	if contradicts, err := f.contradicts(ctx, next); contradicts || err != nil {
		return err
	}
	if f.wrong, err = f.leadsTo(ctx, c); f.wrong != "" || err != nil {
		return err
	}
	f.forked = ""
	if s := f.stood.Checkpoint; s != nil && s.Epoch == c.Epoch && c.AsOf.Before(s.AsOf) {
		return nil
	}
	f.stood = next
	f.cfg.Latest.Publish(db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: signed})
	return nil
}

// compare notes how far the master is, and whether its statements still agree with what it signed.
// The master's note was read after those here.
func (f *Files) compare(ctx context.Context, newest db.FeedNote) {
	if f.keys == nil {
		return
	}
	c, err := f.keys.OpenCheckpoint(newest.Note)
	if err != nil {
		return // it is checked when it has come
	}
	if contradicts, err := f.contradicts(ctx, verified{c, newest.Note}); contradicts || err != nil {
		return
	}
	f.forked = ""
	if f.wanted.IsZero() && (f.stood.Checkpoint == nil || f.stood.AsOf.Before(c.AsOf)) {
		f.wanted, f.since = c.AsOf, f.cfg.Now()
	}
}

// contradicts compares a checkpoint of the master with the newest verified one. It keeps the
// evidence, and nothing is copied over it.
func (f *Files) contradicts(ctx context.Context, next verified) (bool, error) {
	ours := f.stood
	if ours.Checkpoint == nil || ours.Epoch != next.Epoch {
		return false, nil
	}
	if next.Number < ours.Number {
		f.forked = feed.WhyBehind
		f.cfg.Behind(ours.note, next.note)
		return true, nil
	}
	why := feed.Contradict(ours.Checkpoint, next.Checkpoint)
	if why == "" {
		return false, nil
	}
	f.forked = why
	err := f.cfg.Local.KeepFork(ctx, "the master's database", why, ours.note, next.note)
	f.cfg.Forked()
	return true, err
}

// maxChain bounds the seals that are read between two checkpoints.
const maxChain = 1024

// leadsTo says why the seals here do not lead from the newest verified checkpoint to checkpoint c;
// empty: they do.
func (f *Files) leadsTo(ctx context.Context, c *feed.Checkpoint) (string, error) {
	if c.Number == 0 {
		return "", nil
	}
	first, before := c.Number, feed.Hash{}
	if s := f.stood.Checkpoint; s != nil && s.Epoch == c.Epoch && s.Number > 0 && s.Number < c.Number && c.Number-s.Number < maxChain {
		first = s.Number
	}
	for number := first; number <= c.Number; number++ {
		seal, err := f.seal(ctx, c.Epoch, number)
		switch {
		case err != nil:
			return "", err
		case seal.Checkpoint == nil:
			return fmt.Sprintf("segment %d is not here, or its seal is not believed", number), nil
		case number > first && seal.Previous != before:
			return fmt.Sprintf("segment %d continues another history", number), nil
		case number == c.Number && (seal.Segment != c.Segment || c.Hash() != seal.Hash() && c.Previous != seal.Hash()):
			return fmt.Sprintf("the newest checkpoint is not one of segment %d", number), nil
		}
		before = seal.Hash()
	}
	return "", nil
}

// seal reads and verifies the seal of a segment; its Checkpoint is nil if there is no valid one.
func (f *Files) seal(ctx context.Context, epoch, number int64) (verified, error) {
	g, err := f.cfg.Local.Files().FeedSeal(ctx, epoch, number)
	if errors.Is(err, db.ErrNotFound) {
		return verified{}, nil
	}
	if err != nil {
		return verified{}, err
	}
	c, err := f.keys.OpenCheckpoint(g.Note)
	if err != nil || c.Epoch != epoch || c.Number != number {
		return verified{}, nil
	}
	return verified{c, g.Note}, nil
}

// Check refuses to serve a segment that differs from its seal. A segment signed by a key that the
// set no longer names counts as missing: no peer would accept it.
func (f *Files) Check(epoch, number int64, s feed.Sealed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keys == nil {
		return db.ErrNotFound
	}
	c, _, err := f.keys.Open(s)
	if errors.Is(err, feed.ErrUnknownKey) {
		return fmt.Errorf("segment %d: %w: %w", number, err, db.ErrNotFound)
	}
	if err == nil && (c.Epoch != epoch || c.Number != number) {
		err = fmt.Errorf("it is segment %d of epoch %d", c.Number, c.Epoch)
	}
	if err == nil {
		return nil
	}
	f.spoiled = fmt.Sprintf("segment %d here is not what was signed: %v", number, err)
	return errors.New(f.spoiled)
}
