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
	mu      sync.Mutex // guards note and changed
	note    db.FeedNote
	changed chan struct{} // closed at the next Post; nil: nobody waits
}

// Post shows a checkpoint, if it is newer than the one shown.
func (b *Board) Post(n db.FeedNote) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.note.Note != nil && n.Epoch == b.note.Epoch && !newer(n, b.note) || n.Epoch < b.note.Epoch {
		return
	}
	b.note = n
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Clear takes down what is shown: it is not believed any more.
func (b *Board) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note = db.FeedNote{}
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
