package feed

import (
	"context"
	"sync"
	"time"

	"ocspfleet/db"
)

// Board shows the newest checkpoint to whoever waits for it. Safe for concurrent
// use; the zero value is empty.
type Board struct {
	mu      sync.Mutex // guards all
	note    db.FeedNote
	shown   []db.FeedNote // the last ones, the newest at the end
	changed chan struct{} // closed at the next Post; nil: nobody waits
	// The segments of the last checkpoints, by number in the epoch of note: who waits
	// needs no database for them.
	segments map[int64]Sealed
}

// PostSegment is Post with the segment that the checkpoint seals; nil: it only
// confirms.
func (b *Board) PostSegment(n db.FeedNote, g *db.Segment) {
	if g != nil {
		b.keep(g)
	}
	b.Post(n)
}

// keep remembers a segment that news may hold.
func (b *Board) keep(g *db.Segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.Epoch < b.note.Epoch || len(g.Body)+len(g.Note) > newsOctets {
		return
	}
	if g.Epoch > b.note.Epoch || b.segments == nil {
		b.segments = map[int64]Sealed{}
	}
	delete(b.segments, g.Number-remembered)
	b.segments[g.Number] = Sealed{Note: g.Note, Body: g.Body}
}

// segment is one that was posted lately.
func (b *Board) segment(epoch, number int64) (Sealed, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sealed, there := b.segments[number]
	return sealed, there && epoch == b.note.Epoch
}

// Post shows a checkpoint, if it is newer than the one shown.
func (b *Board) Post(n db.FeedNote) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.note.Note != nil && n.Epoch == b.note.Epoch && !newer(n, b.note) || n.Epoch < b.note.Epoch {
		return
	}
	b.note = n
	if b.shown = append(b.shown, n); len(b.shown) > remembered {
		b.shown = append([]db.FeedNote(nil), b.shown[1:]...)
	}
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Clear takes down what is shown: it is not believed any more.
func (b *Board) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note, b.shown, b.segments = db.FeedNote{}, nil, nil
}

// remembered is how many checkpoints a board knows again: who asks for news names
// one of the last.
const remembered = 8

// recall returns the checkpoint that a tag names, if it was shown here lately.
func (b *Board) recall(tag string) (db.FeedNote, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.shown {
		if Tag(n.Note) == tag {
			return n, true
		}
	}
	return db.FeedNote{}, false
}

func newer(a, b db.FeedNote) bool {
	return a.Position > b.Position || a.Position == b.Position && a.AsOf.After(b.AsOf)
}

// Newest returns what is shown; its Note is nil while nothing is.
func (b *Board) Newest() db.FeedNote {
	note, _ := b.look()
	return note
}

func (b *Board) look() (db.FeedNote, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.note, b.changed
}

// Await returns the newest checkpoint as soon as enough says so, or after wait,
// or when ctx ends.
func (b *Board) Await(ctx context.Context, wait time.Duration, enough func(db.FeedNote) bool) db.FeedNote {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		note, changed := b.look()
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

// trouble is a text that one goroutine sets and others read.
type trouble struct {
	mu   sync.Mutex // guards text
	text string
}

func (t *trouble) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}

// set says whether that was a change.
func (t *trouble) set(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := t.text != text
	t.text = text
	return changed
}
