package pull

import (
	"bytes"
	"context"
	"errors"
	"log/slog"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// damaged says whether the head here is not the one of the checkpoint that was
// stored with it, which agrees with what a source says: then it was changed here,
// and nobody signed two histories.
func (p *Puller) damaged(ctx context.Context, theirs db.Head) bool {
	kept, err := p.cfg.Store.FeedNote(ctx)
	if err != nil {
		return false
	}
	c, err := feed.ParseCheckpoint(textOf(kept.Note))
	if err != nil {
		return false
	}
	ours, err := c.Head()
	if err != nil || ours.Epoch != theirs.Epoch || ours.Position != theirs.Position {
		return false
	}
	return sameTallies(&ours, &theirs)
}

// checkHead compares the head with the checkpoint that was stored with it: a position that
// was changed here would have changes skipped, and one that is ahead wait for ever. A
// snapshot may be newer than what was sealed then.
func (p *Puller) checkHead(ctx context.Context) error {
	if !p.copy.Seeded || !p.copy.Anchored || p.diverged != "" {
		return nil
	}
	kept, err := p.cfg.Store.FeedNote(ctx)
	if errors.Is(err, db.ErrNotFound) {
		return nil // seeded, and no checkpoint came yet
	}
	if err != nil {
		return err
	}
	if wrongHead(p.copy, kept, db.Snapshot{}) == "" {
		return nil
	}
	s, err := p.cfg.Store.NewestSnapshot(ctx, kept.Epoch)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	if p.diverged = wrongHead(p.copy, kept, s); p.diverged == "" {
		return nil
	}
	p.cfg.Log.ErrorContext(ctx, "copy differs from its checkpoint", slog.String("how", p.diverged))
	p.forgetAll()
	return nil
}

// textOf is the signed text of a note: all before the empty line that the
// signatures follow.
func textOf(signed []byte) string {
	return string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1])
}
