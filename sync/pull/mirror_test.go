package pull_test

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/pull"
)

func mirroring(c *pull.Config) { c.Mirror = true }

// mirrors waits until the site's newest checkpoint is the master's, and says that
// no row came with it.
func (s *site) mirrors(tb testing.TB, m *master) {
	tb.Helper()
	var last error
	for range 6000 {
		theirs, err := m.store.FeedNote(tb.Context())
		ours, mirrorErr := s.store.FeedNote(tb.Context())
		if last = errors.Join(err, mirrorErr); last == nil && ours.Position == theirs.Position && theirs.Position == m.position(tb) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := s.store.Head(tb.Context()); last != nil || !errors.Is(err, db.ErrNoHead) {
		tb.Fatalf("the mirror: %v; the head of a site without rows: %v", last, err)
	}
}

// A site whose rows come by native replication keeps the signed files, through an
// outage, and relays them: a peer is seeded and fed from it alone.
func TestMirrorRelaysWithoutRows(t *testing.T) {
	m, a, b := newMaster(t), newSite(t), newSite(t)
	for n := range 10 {
		m.issue(t, n)
	}
	client := serve(t, m.store, m.board, a.id, nil)
	_, stop := a.pulls(t, m, mirroring, client)
	a.mirrors(t, m)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	a.mirrors(t, m)
	stop()
	m.revoke(t, 2, db.ReasonSuperseded)
	m.issue(t, 20)
	_, stop = a.pulls(t, m, mirroring, client)
	a.mirrors(t, m)
	b.pulls(t, m, nil, serve(t, a.sync, a.board, b.id, nil))
	b.equals(t, m)
	m.revoke(t, 3, db.ReasonSuperseded)
	b.equals(t, m)
	stop()

	// The mirroring site goes over to the feed: its rows come from there now.
	a.pulls(t, m, nil, client)
	a.equals(t, m)
	m.revoke(t, 4, db.ReasonSuperseded)
	a.equals(t, m)
}

// Two histories are told apart in the mirror, too.
func TestMirrorKeepsEvidenceOfAFork(t *testing.T) {
	m, s := newMaster(t), newSite(t)
	m.issue(t, 1)
	_, stop := s.pulls(t, m, mirroring, serve(t, m.store, m.board, s.id, nil))
	s.mirrors(t, m)
	stop()
	forged, err := s.store.FeedMirror(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.keys.OpenCheckpoint(forged.Note.Note)
	if err != nil {
		t.Fatal(err)
	}
	c.Segment = feed.HashOf([]byte("another segment"))
	c.AsOf = c.AsOf.Add(time.Second)
	signed, err := c.Sign(m.key)
	if err != nil {
		t.Fatal(err)
	}
	board := &feed.Board{}
	board.Post(db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: signed})
	p, _ := s.pulls(t, m, mirroring, serve(t, m.store, board, s.id, nil))
	awaitTrouble(t, p, pull.ErrFork)
	if n, err := s.store.Forks(t.Context()); err != nil || len(n) != 1 {
		t.Errorf("%d pieces of evidence, %v", len(n), err)
	}
}
