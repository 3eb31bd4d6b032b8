package pull_test

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/pull"
)

// trims starts a trimmer that finds everything old, and the segments soon long.
func (s *site) trims(t *testing.T, m *master, change func(*pull.TrimmerConfig)) {
	t.Helper()
	cfg := pull.TrimmerConfig{
		Store: s.sync.Site, Relays: true, Origin: origin, Root: rootOf(t, m), Keep: time.Nanosecond, Least: 1, Every: 20 * time.Millisecond, Log: quiet,
	}
	change(&cfg)
	runs(t, pull.NewTrimmer(cfg).Run)
}

func (s *site) has(t *testing.T, epoch, number int64) bool {
	t.Helper()
	_, err := s.store.FeedSegment(t.Context(), epoch, number)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// A relay's files do not grow without end: where the segments since its snapshot are
// long, it takes a newer one and drops what that covers. A new site is seeded from it
// alone all the same, and so is a peer that was away for longer than segments stay.
func TestRelayTakesANewerSnapshotAndDropsWhatItCovers(t *testing.T) {
	t.Parallel()
	m, relay, away := newMaster(t), newSite(t), newSite(t)
	m.issue(t, 1)
	m.sealed(t)
	fromMaster := serveMaster(t, m.store, m.latest, relay.id, nil)
	relay.pulls(t, m, nil, fromMaster)
	eventually(t, "the relay has the master's newest", func() bool { return relay.latest.Newest().Position == m.position(t) })
	_, stop := away.pulls(t, m, nil, serve(t, relay.sync, relay.latest, away.id, nil))
	away.equals(t, m)
	stop()
	first, err := relay.store.Site.RelayNeed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	relay.trims(t, m, func(c *pull.TrimmerConfig) { c.Sources = append(c.Sources, fromMaster) })
	n := 1
	eventually(t, "a newer snapshot is relayed", func() bool {
		n++
		m.issue(t, n)
		m.sealed(t)
		need, err := relay.store.Site.RelayNeed(t.Context())
		return err == nil && need.Newest.Position > first.Newest.Position
	})
	epoch := m.latest.Newest().Epoch
	eventually(t, "what it covers is dropped", func() bool { return !relay.has(t, epoch, 1) })
	eventually(t, "the relay has the master's newest", func() bool { return relay.latest.Newest().Position == m.position(t) })
	if newest := relay.latest.Newest().Number; !relay.has(t, epoch, newest) {
		t.Errorf("segment %d, the newest, is gone", newest)
	}
	for _, s := range []*site{away, newSite(t)} {
		s.pulls(t, m, nil, serve(t, relay.sync, relay.latest, s.id, nil))
		s.equals(t, m)
	}
}

// Who relays to nobody needs no segment but the newest.
func TestSiteThatRelaysNothingKeepsTheNewestSegmentAlone(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	for n := range 5 {
		m.issue(t, n)
		s.equals(t, m)
	}
	epoch, newest := m.latest.Newest().Epoch, m.latest.Newest().Number
	s.trims(t, m, func(c *pull.TrimmerConfig) { c.Relays = false })
	eventually(t, "old segments are dropped", func() bool {
		for n := range newest {
			if s.has(t, epoch, n) {
				return false
			}
		}
		return true
	})
	if !s.has(t, epoch, newest) {
		t.Errorf("segment %d, the newest, is gone", newest)
	}
	m.issue(t, 9)
	s.equals(t, m)
}
