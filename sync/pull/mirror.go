package pull

import (
	"bytes"
	"context"
	"errors"
	"log/slog"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// errMirror says that mirrored files are not what was stored here.
var errMirror = errors.New("the mirrored checkpoint cannot be read")

// loadCopy reads what is stored: a copy with its rows, or only the signed files.
func (p *Puller) loadCopy(ctx context.Context) (db.FeedCopy, error) {
	if !p.cfg.Mirror {
		return p.cfg.Store.FeedCopy(ctx)
	}
	m, err := p.cfg.Store.FeedMirror(ctx)
	if err != nil || !m.Anchored {
		return db.FeedCopy{}, err
	}
	head, err := mirroredHead(m)
	if err != nil {
		p.cfg.Log.ErrorContext(ctx, "mirror begins anew", slog.String("error", err.Error()))
		return db.FeedCopy{}, nil
	}
	return db.FeedCopy{Head: head, Seeded: true, Anchor: m.Anchor, Anchored: true}, nil
}

// mirroredHead is the head that rows would have here. It was verified when it was
// stored, and whoever takes it from here verifies it again.
func mirroredHead(m db.FeedMirror) (db.Head, error) {
	if n := m.Note.Note; n != nil {
		c, err := feed.ParseCheckpoint(textOf(n))
		if err != nil {
			return db.Head{}, err
		}
		return c.Head()
	}
	if n := m.Snapshot.Note; n != nil {
		s, err := feed.ParseSnapshot(textOf(n))
		if err != nil {
			return db.Head{}, err
		}
		return s.Head()
	}
	return db.Head{}, errMirror
}

// textOf is the signed text of a note: all before the empty line that the
// signatures follow.
func textOf(signed []byte) string {
	return string(signed[:bytes.LastIndex(signed, []byte("\n\n"))+1])
}

// store takes a verified step into the database, and returns the copy that there is
// then.
func (p *Puller) store(ctx context.Context, step db.FeedStep) (db.FeedCopy, error) {
	if p.cfg.Mirror {
		if err := p.cfg.Store.Mirror(ctx, step); err != nil {
			return db.FeedCopy{}, err
		}
		return p.loadCopy(ctx)
	}
	return p.cfg.Store.Apply(ctx, step)
}

// storeSeed takes a verified snapshot into the database.
func (p *Puller) storeSeed(ctx context.Context, from db.FeedSeed) (db.Seeded, error) {
	if p.cfg.Mirror {
		return db.Seeded{}, p.cfg.Store.MirrorSnapshot(ctx, from)
	}
	return p.cfg.Store.SeedFromFeed(ctx, from)
}

// confirms says whether c is news about the segment that the copy stands on.
func (p *Puller) confirms(c *feed.Checkpoint) bool {
	if c.Number != p.copy.Anchor.Number || !p.cfg.Mirror && c.Position != p.copy.Head.Position {
		return false
	}
	if c.AsOf.After(p.copy.Head.AsOf) {
		return true
	}
	// A snapshot may have confirmed more than any checkpoint that is kept here; ocspd
	// needs one, and so do those who fetch from here.
	shown := p.cfg.Board.Newest()
	return shown.Note == nil || shown.Epoch != c.Epoch || shown.Position < c.Position || shown.Position == c.Position && shown.AsOf.Before(c.AsOf)
}

// Check has the copy recounted, and all sources asked for a newer key set, before
// the next question.
func (p *Puller) Check() {
	p.lookForKeys.Store(lookAll)
	p.watched.count()
}
