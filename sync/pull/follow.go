package pull

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/replica"
)

// follow brings the copy to a verified checkpoint.
func (p *Puller) follow(ctx context.Context, from *feedhttp.Client, c *feed.Checkpoint, signed []byte) error {
	now := p.cfg.Now()
	if c.AsOf.After(now.Add(db.MaxClockSkew)) {
		return fmt.Errorf("%w: %v ahead of this site's clock", ErrFuture, c.AsOf.Sub(now).Round(time.Second))
	}
	if !p.tainted { // a tainted copy is not compared
		if err := p.judge(ctx, from, c, signed); err != nil {
			return err
		}
	}
	p.reseed, p.lost = wantsSeed(p.copy, p.diverged, c), nil
	if p.reseed == "" {
		if err := p.catchUp(ctx, from, c); err != nil {
			return err
		}
	}
	if p.reseed != "" {
		if err := p.seed(ctx, from, c); err != nil {
			return p.orLost(err)
		}
		if err := p.catchUp(ctx, from, c); err != nil {
			return err
		}
		if p.reseed != "" {
			return p.orLost(fmt.Errorf("%w: its snapshot does not help: %s", ErrGap, p.reseed))
		}
	}
	if err := p.confirm(ctx, from, c, signed); err != nil {
		return err
	}
	return stale(now, c.AsOf, p.cfg.StaleAfter)
}

// judge compares a checkpoint with the copy's.
func (p *Puller) judge(ctx context.Context, from *feedhttp.Client, c *feed.Checkpoint, signed []byte) error {
	if err := feed.GoesBack(p.stood, c); err != nil {
		return err
	}
	head, err := c.Head()
	if err != nil {
		return err
	}
	have := p.copy.Anchor
	switch relationOf(p.copy, c, head) {
	case olderEpoch:
		return fmt.Errorf("%w: epoch %d, the copy is of %d", ErrRollback, c.Epoch, p.copy.Head.Epoch)
	case otherSegment:
		return p.fork(ctx, from, "two segments of one number", signed)
	case otherContent:
		if p.damaged(ctx, head) {
			p.diverged = "the head here is not the one that was signed"
			return nil
		}
		return p.fork(ctx, from, "two contents of one position", signed)
	case behind:
		stored, err := p.cfg.Store.FeedSegment(ctx, c.Epoch, c.Number)
		if err == nil && c.Segment != feed.Hash(stored.Hash) && p.admits(stored.Note) {
			return p.forkAt(ctx, from, "two segments of one number", stored.Note, signed)
		}
		if from.Master() {
			if ours, err := p.cfg.Store.FeedNote(ctx); err == nil && p.admits(ours.Note) {
				p.reporter.Behind(ours.Note, signed)
			}
		}
		return fmt.Errorf("%w: segment %d, this site has %d", ErrRollback, c.Number, have.Number)
	}
	return nil
}

// admits says whether a note that is kept here counts by the newest key set.
func (p *Puller) admits(signed []byte) bool {
	_, err := p.keys.OpenCheckpoint(signed)
	return err == nil
}

// fork keeps both statements and leaves the source; the copy stays. If the newest key set does not
// admit the statement of the copy, it is not a fork: the copy is seeded again.
func (p *Puller) fork(ctx context.Context, from *feedhttp.Client, why string, theirs []byte) error {
	ours, err := p.cfg.Store.FeedNote(ctx)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return local(err)
	}
	if err != nil || !p.admits(ours.Note) {
		p.cleansed = false
		p.taint(ctx, why+", and no key that is believed signed the one here")
		return fmt.Errorf("%w: %s", ErrGap, p.diverged)
	}
	return p.forkAt(ctx, from, why, ours.Note, theirs)
}

func (p *Puller) forkAt(ctx context.Context, from *feedhttp.Client, why string, ours, theirs []byte) error {
	if err := p.cfg.Store.KeepFork(ctx, from.String(), why, ours, theirs); err != nil {
		return local(err)
	}
	p.reporter.Wake()
	return fmt.Errorf("%w: %s, at position %d; both statements are kept in table feed_fork", ErrFork, why, p.copy.Head.Position)
}

// catchUp applies segments one by one, up to the checkpoint's segment.
func (p *Puller) catchUp(ctx context.Context, from *feedhttp.Client, c *feed.Checkpoint) error {
	for p.copy.Anchor.Number < c.Number {
		number := p.copy.Anchor.Number + 1
		sealed, err := p.segment(ctx, from, c.Epoch, number)
		if errors.Is(err, db.ErrNotFound) {
			p.reseed = fmt.Sprintf("segment %d is not to be had", number)
			return nil
		}
		if err != nil {
			return err
		}
		done, err := p.apply(ctx, from, number, sealed)
		if err != nil || !done {
			return err
		}
	}
	return nil
}

// apply verifies one segment and applies it. It returns false if only a snapshot helps.
func (p *Puller) apply(ctx context.Context, from *feedhttp.Client, number int64, sealed feed.Sealed) (bool, error) {
	c, segment, err := p.keys.Open(sealed)
	if errors.Is(err, feed.ErrUnknownKey) { // the key may be of an earlier key set
		p.reseed = fmt.Sprintf("segment %d is signed by no key that is believed", number)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := feed.GoesBack(p.stood, c); err != nil {
		return false, err
	}
	have := p.copy.Anchor
	switch {
	case segment.Number != number || c.Epoch != have.Epoch:
		return false, fmt.Errorf("%w: segment %d of epoch %d stands where %d belongs", ErrMixed, segment.Number, c.Epoch, number)
	case segment.Previous != feed.Hash(have.Hash) || c.Previous != feed.Hash(have.NoteHash):
		return false, p.fork(ctx, from, "a segment that continues another history", sealed.Note)
	case segment.SnapshotRequired && segment.Last > p.copy.Head.Position:
		p.reseed = fmt.Sprintf("segment %d requires a snapshot", number)
		return false, nil
	}
	step, err := p.stepOf(sealed, c, segment)
	if err != nil {
		return false, err
	}
	if err := p.take(ctx, step, c); err != nil || p.reseed != "" {
		return false, err
	}
	return true, nil
}

// stepOf returns the step that a verified segment makes.
func (p *Puller) stepOf(sealed feed.Sealed, c *feed.Checkpoint, segment *feed.Segment) (sitedb.FeedStep, error) {
	head, err := c.Head()
	return sitedb.FeedStep{
		Changes: segment.Changes, Head: head, PurgeBefore: c.PurgeBefore, Open: p.keys.OpenCorrections,
		Note: db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: sealed.Note},
		Segment: &db.Segment{
			Epoch: c.Epoch, Number: c.Number, First: segment.First, Last: segment.Last,
			Hash: c.Segment, Note: sealed.Note, NoteHash: c.Hash(), SnapshotRequired: segment.SnapshotRequired, Body: sealed.Body,
		},
	}, err
}

// confirm takes a later checkpoint of the copy's segment.
func (p *Puller) confirm(ctx context.Context, from *feedhttp.Client, c *feed.Checkpoint, signed []byte) error {
	have := p.copy.Anchor
	if !p.confirms(c) {
		return nil
	}
	if c.Hash() != feed.Hash(have.NoteHash) && c.Previous != feed.Hash(have.NoteHash) {
		return p.fork(ctx, from, "a checkpoint that continues another history", signed)
	}
	next, err := c.Head()
	if err != nil {
		return err
	}
	return p.take(ctx, sitedb.FeedStep{
		Head: next, PurgeBefore: c.PurgeBefore,
		Note: db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: signed},
	}, c)
}

// take applies a step. A copy that differs from what was signed is seeded again.
func (p *Puller) take(ctx context.Context, step sitedb.FeedStep, c *feed.Checkpoint) error {
	call, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	p.current = false // a failed step may have been stored
	var stored sitedb.FeedCopy
	var err error
	p.watched.writing(func() func(*replica.Pace) {
		stored, err = p.cfg.Store.Apply(call, step)
		return func(pace *replica.Pace) { pace.Wrote(stored.Took) }
	})
	if errors.Is(err, sitedb.ErrDiverged) || errors.Is(err, sitedb.ErrGap) || tables.Damaged(err) {
		p.reseed, p.diverged = err.Error(), err.Error()
		return nil
	}
	if errors.Is(err, db.ErrRevocationsLost) { // the correction may have been signed again later, after its key was banned
		p.reseed, p.lost = err.Error(), err
		return nil
	}
	if err != nil {
		return local(err)
	}
	p.copy, p.current = stored, true
	if p.stood == nil || p.stood.Epoch != c.Epoch || !c.AsOf.Before(p.stood.AsOf) {
		p.stood = c
	}
	p.cfg.Metrics.took(step)
	p.cfg.Metrics.stands(p.copy.Head)
	p.cfg.Latest.PublishSegment(step.Note, step.Segment)
	return nil
}

// confirms says whether c is newer than what is known about the copy's segment.
func (p *Puller) confirms(c *feed.Checkpoint) bool {
	if c.Number != p.copy.Anchor.Number || c.Position != p.copy.Head.Position {
		return false
	}
	if c.AsOf.After(p.copy.Head.AsOf) {
		return true
	}
	// A snapshot may have confirmed more than any checkpoint that is kept here; ocspd needs a
	// checkpoint, and so do the peers that fetch from this site.
	shown := p.cfg.Latest.Newest()
	return shown.Note == nil || shown.Epoch != c.Epoch || shown.Position < c.Position || shown.Position == c.Position && shown.AsOf.Before(c.AsOf)
}
