package feed

import (
	"log/slog"
	"testing"
)

// A site that goes on by many changes is written down at once: imports wait for it.
func TestClientTrackerHurriesForManyChanges(t *testing.T) {
	tracker := NewClientTracker(nil, &AccessList{}, slog.New(slog.DiscardHandler))
	hurries := func() bool {
		select {
		case <-tracker.moved:
			return true
		default:
			return false
		}
	}
	tracker.came("site-a", 17, Form)
	if !hurries() {
		t.Error("a site that comes for the first time is not written down")
	}
	tracker.noted["site-a"] = 17
	if tracker.came("site-a", 16+manyChanges, Form); hurries() {
		t.Error("hurries for few changes")
	}
	tracker.came("site-a", 17+manyChanges, Form)
	if tracker.came("site-a", 18+manyChanges, Form); !hurries() {
		t.Error("does not hurry for many changes")
	}
}
