package pull_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/pull"
)

// far is a position that no master ever reaches: whoever is led there waits for ever.
const far = int64(1) << 62

// claimsFar has a thief's relay show a segment without changes to a far position, with a snapshot that holds
// what the master has: all of it is signed with the stolen key.
func claimsFar(t *testing.T, m *master, thief *site) {
	t.Helper()
	copied, err := thief.store.Site.FeedCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := copied.Head
	head.Position, head.AsOf, head.AuditCount = far, time.Now().Add(time.Minute).UTC().Truncate(time.Microsecond), far
	segment := &feed.Segment{
		Epoch: head.Epoch, Number: copied.Anchor.Number + 1, First: copied.Head.Position + 1, Last: far, Previous: feed.Hash(copied.Anchor.Hash), SnapshotRequired: true,
	}
	c := feed.NewCheckpoint(origin, head, time.Time{})
	c.KeySet, c.Previous = m.keys.Number, feed.Hash(copied.Anchor.NoteHash)
	sealed, err := feed.Seal(segment, &c, m.key)
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	cut := feed.Chunker{Write: func(_ int, b []byte) error { bodies = append(bodies, append([]byte(nil), b...)); return nil }}
	stop := errors.New("read only")
	err = m.store.Publisher.MakeSnapshot(t.Context(), func(ctx context.Context, w *publisherdb.Sealing, _ func(int, []byte) error) (db.Snapshot, error) {
		return db.Snapshot{}, errors.Join(w.Rows(ctx, cut.Add), cut.Close(), stop)
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	s := feed.Snapshot{Checkpoint: c, Chunks: cut.Chunks}
	s.Previous = c.Hash() // the anchor: of the newest seal
	manifest, err := s.Sign(m.key)
	if err != nil {
		t.Fatal(err)
	}
	err = thief.store.Site.KeepSnapshot(t.Context(), sitedb.FeedSeed{
		Snapshot: db.Snapshot{Epoch: c.Epoch, Position: far, Octets: s.Size(), Note: manifest},
		Chunk:    func(_ context.Context, i int) ([]byte, []db.Change, error) { return bodies[i], nil, nil }, Chunks: len(bodies),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: sealed.Note}
	stored := &db.Segment{Epoch: c.Epoch, Number: c.Number, First: segment.First, Last: far, Hash: c.Segment, Note: sealed.Note, NoteHash: c.Hash(), SnapshotRequired: true, Body: sealed.Body}
	thief.plants(t, signed, stored)
	thief.latest.PublishSegment(signed, stored)
}

// A thief's note at a far position leads sites astray and is remembered there: in
// their copy, in what they show as newest, in what they ask for. The runbook's ban takes all of it
// back, without a new epoch, also where the site hears from peers and asks for what
// lies beyond the far position.
func TestBanTakesBackAFarPosition(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	thief, relay, victim := newSite(t), newSite(t), newSite(t)
	m.issue(t, 1)
	m.sealed(t)
	_, stop := thief.pulls(t, m, nil, serve(t, m.store, m.latest, thief.id, nil))
	thief.equals(t, m)
	stop()
	relay.pulls(t, m, nil, serve(t, m.store, m.latest, relay.id, nil))
	relay.equals(t, m)
	claimsFar(t, m, thief)
	p, stop := victim.pulls(t, m, nil, serve(t, thief.store, thief.latest, victim.id, nil))
	for tries := 0; ; tries++ {
		if head, err := victim.store.Head(t.Context()); err == nil && head.Position == far {
			break
		}
		if tries == 1000 {
			t.Fatalf("the thief did not lead the site astray, the test shows nothing: %s", p.State().Trouble)
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	// From now on it hears from the master and an honest relay, and looks for key sets
	// only where a poll makes it.
	victim.pulls(t, m, func(c *pull.Config) { c.PreferPeers, c.KeysEvery = true, time.Hour },
		serve(t, m.store, m.latest, victim.id, nil), serve(t, relay.sync, relay.latest, victim.id, nil))
	clean := m.publishes(t, m.store, func(k *feed.KeySet) {
		k.Keys, k.Banned = []feed.FeedKey{named(next)}, []string{m.key.Verifier()}
	})
	relay.beats(t, m, m.store, clean)
	m.issue(t, 2)
	victim.backTo(t, m)
	// What it relays from now on is the master's, the snapshot too.
	late := newSite(t)
	late.pulls(t, m, nil, serve(t, victim.sync, victim.latest, late.id, nil))
	late.equals(t, m)
}

// backTo waits until the site stands where the master does, wherever it was.
func (s *site) backTo(tb testing.TB, m *master) {
	tb.Helper()
	var got db.Head
	for range 3000 {
		want, err := m.store.Head(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if got, err = s.store.Head(tb.Context()); err == nil && got.Position == want.Position && dbtest.Same(tb.Context(), m.store.DB, s.store.DB) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Fatalf("the site is still at position %d", got.Position)
}

// forged is a relay that shows one more checkpoint of the master's key, which change
// makes wrong.
func forged(t *testing.T, m *master, thief *site, segment bool, change func(*db.Head)) {
	t.Helper()
	copied, err := thief.store.Site.FeedCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := copied.Head
	if segment {
		head.Position++
	}
	head.AsOf = time.Now().UTC().Truncate(time.Microsecond)
	change(&head)
	c := feed.NewCheckpoint(origin, head, time.Time{})
	c.KeySet, c.Previous, c.Number, c.Segment = m.keys.Number, feed.Hash(copied.Anchor.NoteHash), copied.Anchor.Number, feed.Hash(copied.Anchor.Hash)
	var stolen *db.Segment
	signed := db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf}
	if segment {
		content := db.AppendCertificate(nil, 1, serial(666), db.Status{NotAfter: time.Now().Add(time.Hour).Truncate(time.Second), Reason: db.ReasonNone})
		head.Certificates.Add(content)
		c = feed.NewCheckpoint(origin, head, time.Time{})
		c.KeySet, c.Previous = m.keys.Number, feed.Hash(copied.Anchor.NoteHash)
		s := &feed.Segment{
			Epoch: head.Epoch, Number: copied.Anchor.Number + 1, First: head.Position, Last: head.Position, Previous: feed.Hash(copied.Anchor.Hash),
			Changes: []db.Change{{Position: head.Position, Table: db.CertificateTable, Content: content}},
		}
		sealed, err := feed.Seal(s, &c, m.key)
		if err != nil {
			t.Fatal(err)
		}
		signed.Number, signed.Note = c.Number, sealed.Note
		stolen = &db.Segment{Epoch: c.Epoch, Number: c.Number, First: s.First, Last: s.Last, Hash: c.Segment, Note: sealed.Note, NoteHash: c.Hash(), Body: sealed.Body}
	} else if signed.Note, err = c.Sign(m.key); err != nil {
		t.Fatal(err)
	}
	thief.plants(t, signed, stolen)
	thief.latest.Clear()
	thief.latest.PublishSegment(signed, stolen)
}

// What one key has signed cannot go back in time: neither the audit's length, nor the
// clock with the next change.
func TestWhatGoesBackIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	for name, attack := range map[string]struct {
		segment bool
		change  func(*db.Head)
	}{
		"the audit is shorter in a confirmation": {false, func(h *db.Head) { h.AuditCount-- }},
		"the audit is shorter in a segment":      {true, func(h *db.Head) { h.AuditCount-- }},
		"a segment from before the copy":         {true, func(h *db.Head) { h.AsOf = h.AsOf.Add(-time.Hour / 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			m, thief, victim := newMaster(t), newSite(t), newSite(t)
			m.issue(t, 1)
			m.sealed(t)
			for _, s := range []*site{thief, victim} {
				_, stop := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
				s.equals(t, m)
				stop()
			}
			forged(t, m, thief, attack.segment, attack.change)
			p, _ := victim.pulls(t, m, nil, serve(t, thief.store, thief.latest, victim.id, nil))
			awaitTrouble(t, p, pull.ErrRollback)
			if victim.knows(t, 666) {
				t.Error("it was taken")
			}
		})
	}
}
