package feed

import (
	"log/slog"
	"testing"
)

// A site that goes on by many changes is written down at once: imports wait for it.
func TestGuestbookHurriesForManyChanges(t *testing.T) {
	book := NewGuestbook(nil, &Guests{}, slog.New(slog.DiscardHandler))
	hurries := func() bool {
		select {
		case <-book.moved:
			return true
		default:
			return false
		}
	}
	book.came("site-a", 17, Form)
	if !hurries() {
		t.Error("a site that comes for the first time is not written down")
	}
	book.noted["site-a"] = 17
	if book.came("site-a", 16+manyChanges, Form); hurries() {
		t.Error("hurries for few changes")
	}
	book.came("site-a", 17+manyChanges, Form)
	if book.came("site-a", 18+manyChanges, Form); !hurries() {
		t.Error("does not hurry for many changes")
	}
}
