package pull_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/pull"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
)

// resign signs the corrections anew that would be lost without a key, as ocspctl feed
// corrections resign does.
func (m *master) resign(tb testing.TB, set *feed.KeySet, without string, key *feed.Key) {
	tb.Helper()
	var notes [][]byte
	if err := m.store.Corrections(tb.Context(), func(c db.Correction) error { notes = append(notes, c.Note); return nil }); err != nil {
		tb.Fatal(err)
	}
	now, err := m.store.Clock(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	lost := set.Lost(notes, set.Without(without))
	var rows []db.Correction
	for i := range lost {
		lost[i].CorrectedAt = now.Truncate(time.Second)
		rows = append(rows, db.Correction{IssuerID: 1, Serial: lost[i].Serial, RevokedAt: lost[i].Was.RevokedAt, CorrectedAt: lost[i].CorrectedAt})
	}
	signed, err := set.SignCorrections(key, lost)
	for i := range signed {
		rows[i].Note = signed[i].Note
	}
	if err == nil {
		err = m.store.Master.ResignCorrections(tb.Context(), rows, act)
	}
	if err != nil || len(rows) == 0 {
		tb.Fatal(len(rows), err)
	}
}

// trusts is what ocspd believes under the pinned root.
func (m *master) trusts(tb testing.TB) func(keys [][]byte) (index.Trust, error) {
	tb.Helper()
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		tb.Fatal(err)
	}
	return func(keys [][]byte) (index.Trust, error) {
		set, _, err := feed.NewestKeySet(keys, origin, root)
		if err != nil {
			return index.Trust{}, err
		}
		return index.Trust{Corrections: set.OpenCorrections, Checkpoint: func(signed []byte) (db.Head, error) {
			c, err := set.OpenCheckpoint(signed)
			if err != nil {
				return db.Head{}, err
			}
			return c.Head()
		}}, nil
	}
}

// A key for corrections is banned in the order of docs/feed-keys.md, under load: what it
// corrected stays corrected, at a site that follows and answers meanwhile, at one that was
// away since before the correction, and at a new one. Nothing is seeded anew.
func TestABanOfACorrectKeyLosesNothing(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	m.issue(t, 0)
	m.revoke(t, 0, db.ReasonKeyCompromise)
	follower, away, fresh, registry := newSite(t), newSite(t), newSite(t), prometheus.NewRegistry()
	follower.pulls(t, m, func(c *pull.Config) { c.Metrics = pull.NewMetrics(registry) }, serve(t, m.store, m.latest, follower.id, nil))
	_, stop := away.pulls(t, m, nil, serve(t, m.store, m.latest, away.id, nil))
	follower.equals(t, m)
	away.equals(t, m)
	stop()
	copied, err := index.Open(t.Context(), follower.store.Site, index.Config{Poll: 10 * time.Millisecond, Logger: quiet, Trust: m.trusts(t)})
	if err != nil {
		t.Fatal(err)
	}
	runs(t, copied.Run)
	good := func(when string) {
		t.Helper()
		for range 600 {
			if s, _, err := copied.Lookup(t.Context(), 1, serial(0)); err == nil && !s.Revoked {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		s, _, err := copied.Lookup(t.Context(), 1, serial(0))
		t.Fatalf("%s it is %+v, %v", when, s, err)
	}
	m.correct(t, 0)
	good("corrected,")

	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // the load
		defer close(ended)
		for n := 1000; ; n++ {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if _, err := m.store.Master.Issue(t.Context(), 1, serial(n), time.Now().Add(24*time.Hour), act); err != nil {
				t.Error(err)
				return
			}
			if err := copied.Ready(); err != nil {
				t.Errorf("the site answers no more: %v", err)
				return
			}
			if s, _, err := copied.Lookup(t.Context(), 1, serial(0)); err != nil || s.Revoked {
				t.Errorf("it is revoked again: %+v, %v", s, err)
				return
			}
		}
	}()
	old := m.corrects.Verifier()
	m.keys = m.publishes(t, m.store, func(k *feed.KeySet) { k.Correct = append(slices.Clone(k.Correct), feedtest.Named(next)) })
	follower.beats(t, m, m.store, m.keys)
	m.resign(t, m.keys, old, next)
	m.keys = m.publishes(t, m.store, func(k *feed.KeySet) { k.Correct, k.Banned = []feed.FeedKey{feedtest.Named(next)}, []string{old} })
	follower.beats(t, m, m.store, m.keys)
	time.Sleep(300 * time.Millisecond) // thirty looks of ocspd under the new set
	close(done)
	<-ended
	follower.equals(t, m)
	good("after the ban,")
	if n := metric(t, registry, "ocspsyncd_pull_seeds_total", ""); n != 1 {
		t.Errorf("the copy was seeded %v times, want once", n)
	}
	for _, s := range []*site{away, fresh} {
		s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
		s.equals(t, m)
		s.shows(t, 0, false)
	}
}

// In the other order it is lost: who still knows the revocation goes on saying so.
func TestABanWithoutResigningIsRefusedWhereTheRevocationIsKnown(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	m.issue(t, 0)
	m.revoke(t, 0, db.ReasonKeyCompromise)
	away := newSite(t)
	_, stop := away.pulls(t, m, nil, serve(t, m.store, m.latest, away.id, nil))
	away.equals(t, m)
	stop()
	m.correct(t, 0)
	old := m.corrects.Verifier()
	m.keys = m.publishes(t, m.store, func(k *feed.KeySet) { k.Correct, k.Banned = []feed.FeedKey{feedtest.Named(next)}, []string{old} })
	// The master's own newest; a site seeded from the snapshot before would refuse, too.
	(&site{store: m.store}).beats(t, m, m.store, m.keys)
	p, _ := away.pulls(t, m, func(c *pull.Config) { c.KeysEvery = 10 * time.Millisecond }, serve(t, m.store, m.latest, away.id, nil))
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.State().Trouble, "permanent revocations would be lost"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it says %q", p.State().Trouble)
		}
	}
	away.shows(t, 0, true)
}
