package pull

import (
	"context"

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
	for _, t := range db.FeedTables {
		if *t.Tally(&ours) != *t.Tally(&theirs) {
			return false
		}
	}
	return true
}
