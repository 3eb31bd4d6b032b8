package publish_test

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/publish"
)

// Old segments go where the kept snapshots cover them, never the newest one, and a
// sealer goes on.
func TestSegmentsThatSnapshotsCoverAreTrimmed(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	for n := range uint64(5) {
		m.issue(t, n)
		m.await(t, m.position(t))
	}
	last := m.latest.Newest().Number
	if n, err := m.sealer.Publisher.TrimSegments(t.Context(), 0); err != nil || n != 0 {
		t.Errorf("without a snapshot %d segments were trimmed, %v", n, err)
	}
	m.archives(t, func(c *publish.SnapshotterConfig) { c.Keep = time.Hour })
	m.snapshot(t, m.position(t))
	if n, err := m.sealer.Publisher.TrimSegments(t.Context(), time.Hour); err != nil || n != 0 {
		t.Errorf("%d young segments were trimmed, %v", n, err)
	}
	if n, err := m.sealer.Publisher.TrimSegments(t.Context(), 0); err != nil || n != last-1 {
		t.Errorf("%d of %d segments were trimmed, want all but the newest (%v)", n, last, err)
	}
	if _, err := m.sealer.FeedSegment(t.Context(), m.keys.Epoch, 1); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("segment 1: %v", err)
	}
	m.issue(t, 99)
	if n := m.await(t, m.position(t)); n.Number != last+1 {
		t.Errorf("the next segment is %d, want %d", n.Number, last+1)
	}
}
