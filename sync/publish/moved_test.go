package publish

import (
	"log/slog"
	"testing"

	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// A site that goes on by many changes is written down at once: imports wait for it.
func TestClientTrackerHurriesForManyChanges(t *testing.T) {
	t.Parallel()
	tracker := NewClientTracker(nil, &feedhttp.AccessList{}, slog.New(slog.DiscardHandler))
	hurries := func() bool {
		select {
		case <-tracker.moved:
			return true
		default:
			return false
		}
	}
	tracker.came("site-a", 17, feed.Form)
	if !hurries() {
		t.Error("a site that comes for the first time is not written down")
	}
	tracker.noted["site-a"] = 17
	if tracker.came("site-a", 16+manyChanges, feed.Form); hurries() {
		t.Error("hurries for few changes")
	}
	tracker.came("site-a", 17+manyChanges, feed.Form)
	if tracker.came("site-a", 18+manyChanges, feed.Form); !hurries() {
		t.Error("does not hurry for many changes")
	}
}
