package pull

import (
	"bytes"
	"context"
	"errors"
	"log/slog"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// damaged says whether the head here differs from the checkpoint that was stored with it, while
// that checkpoint agrees with the source's. Then the head was changed here, and there are no two
// signed histories.
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

// checkHead compares the head with the checkpoint that was stored with it: a changed position would
// skip changes, and one that is ahead would wait for ever. A snapshot may be newer than the last
// seal of its time.
func (p *Puller) checkHead(ctx context.Context) error {
	if !p.copy.Seeded || !p.copy.Anchored || p.diverged != "" {
		return nil
	}
	kept, err := p.cfg.Store.FeedNote(ctx)
	if errors.Is(err, db.ErrNotFound) {
		return nil // seeded, and no checkpoint has come yet
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

// textOf returns the signed text of a note: all before the empty line, which the signatures follow.
func textOf(signed []byte) string {
	return string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1])
}
