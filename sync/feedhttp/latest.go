package feedhttp

import (
	"context"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// Latest gives the newest checkpoint to the requests that wait for it. Safe for concurrent
// use; the zero value is empty.
type Latest struct {
	mu      sync.Mutex // guards all
	note    db.FeedNote
	shown   []db.FeedNote // the last ones, the newest at the end
	changed chan struct{} // closed at the next Publish; nil: no request waits
	// The segments of the last checkpoints, by number in the epoch of note: waiting requests
	// need no database for them.
	segments map[int64]feed.Sealed
}

// PublishSegment is Publish with the segment that the checkpoint seals; nil: it only
// confirms.
func (l *Latest) PublishSegment(n db.FeedNote, g *db.Segment) {
	if g != nil {
		l.keep(g)
	}
	l.Publish(n)
}

// keep keeps a segment for news.
func (l *Latest) keep(g *db.Segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.Epoch < l.note.Epoch || len(g.Body)+len(g.Note) > newsOctets {
		return
	}
	if g.Epoch > l.note.Epoch || l.segments == nil {
		l.segments = map[int64]feed.Sealed{}
	}
	delete(l.segments, g.Number-remembered)
	l.segments[g.Number] = feed.Sealed{Note: g.Note, Body: g.Body}
}

// segment returns a segment that was published recently.
func (l *Latest) segment(epoch, number int64) (feed.Sealed, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sealed, there := l.segments[number]
	return sealed, there && epoch == l.note.Epoch
}

// Publish sets the newest checkpoint, if n is newer than the current one.
func (l *Latest) Publish(n db.FeedNote) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.note.Note != nil && n.Epoch == l.note.Epoch && !newer(n, l.note) || n.Epoch < l.note.Epoch {
		return
	}
	l.note = n
	if l.shown = append(l.shown, n); len(l.shown) > remembered {
		l.shown = append([]db.FeedNote(nil), l.shown[1:]...)
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Clear removes all checkpoints: they are no longer trusted.
func (l *Latest) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note, l.shown, l.segments = db.FeedNote{}, nil, nil
}

// remembered is how many of the last checkpoints Latest recognises: a request for news names
// one of them.
const remembered = 8

// recall returns the checkpoint that a tag names, if it was published here recently.
func (l *Latest) recall(tag string) (db.FeedNote, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.shown {
		if Tag(n.Note) == tag {
			return n, true
		}
	}
	return db.FeedNote{}, false
}

func newer(a, b db.FeedNote) bool {
	return a.Position > b.Position || a.Position == b.Position && a.AsOf.After(b.AsOf)
}

// Newest returns the newest checkpoint; its Note is nil if there is none.
func (l *Latest) Newest() db.FeedNote {
	note, _ := l.current()
	return note
}

func (l *Latest) current() (db.FeedNote, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.note, l.changed
}

// Wait returns the newest checkpoint as soon as enough accepts it, or after wait, or when ctx
// ends.
func (l *Latest) Wait(ctx context.Context, wait time.Duration, enough func(db.FeedNote) bool) db.FeedNote {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		note, changed := l.current()
		if note.Note != nil && enough(note) {
			return note
		}
		select {
		case <-ctx.Done():
			return note
		case <-timer.C:
			return note
		case <-changed:
		}
	}
}
