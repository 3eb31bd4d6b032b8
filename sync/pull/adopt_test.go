package pull_test

import (
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"

	"golang.org/x/mod/sumdb/note"
)

// Who has the feed key enters a revocation again that was taken back, to end it by the
// old correction: not with its time, nor with another that he then moves back to it.
func TestAnOldCorrectionEndsNoRevocation(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	for name, attack := range map[string]func(h *thief, was db.Status){
		"the same again": func(h *thief, was db.Status) {
			h.shows(row{db.CertificateTable, certificate(1, good(was)), certificate(1, was)})
		},
		"another, ended by the old correction": func(h *thief, was db.Status) {
			other := was
			other.RevokedAt = was.RevokedAt.Add(time.Second)
			h.shows(row{db.CertificateTable, certificate(1, good(was)), certificate(1, other)})
			h.shows(row{db.CertificateTable, certificate(1, other), certificate(1, was)})
			h.shows(row{db.CertificateTable, certificate(1, was), certificate(1, good(was))})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, victim := newMaster(t), newSite(t)
			m.issue(t, 1)
			m.revoke(t, 1, db.ReasonKeyCompromise)
			client := serve(t, m.store, m.latest, victim.id, nil)
			_, stop := victim.pulls(t, m, nil, client)
			victim.equals(t, m)
			was, err := victim.store.Certificate(t.Context(), 1, serial(1))
			if err != nil {
				t.Fatal(err)
			}
			m.correct(t, 1)
			victim.equals(t, m)
			h := m.steals(t)
			victim.standsOn(t, h.anchor.Number)
			stop()
			attack(h, was)
			p, _ := victim.pulls(t, m, nil, serve(t, h.store, h.latest, victim.id, nil))
			awaitTrouble(t, p, db.ErrRevocationsLost)
			if got, err := victim.store.Certificate(t.Context(), 1, serial(1)); err != nil || got.Permanent() && got.RevokedAt.Equal(was.RevokedAt) {
				t.Errorf("the site says %+v, %v", got, err)
			}
		})
	}
}

// A correction that no key for corrections signed is stored and counted like any row,
// and takes nothing back.
func TestAnUnbelievedCorrectionIsARowLikeAnother(t *testing.T) {
	t.Parallel()
	m, victim := newMaster(t), newSite(t)
	m.issue(t, 1)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	h := m.steals(t)
	_, stop := victim.pulls(t, m, nil, serve(t, m.store, m.latest, victim.id, nil))
	victim.equals(t, m)
	victim.standsOn(t, h.anchor.Number)
	stop()
	was := h.status(1)
	h.shows(row{db.CorrectionTable, nil, h.correction(was, time.Now(), m.key)})
	p, _ := victim.pulls(t, m, nil, serve(t, h.store, h.latest, victim.id, nil))
	for tries := 0; ; tries++ {
		if head, err := victim.store.Head(t.Context()); err == nil && head.Corrections == h.head.Corrections {
			break
		}
		if tries == 6000 {
			t.Fatalf("the site did not take the correction: %s", p.State().Trouble)
		}
		time.Sleep(10 * time.Millisecond)
	}
	victim.shows(t, 1, true)
	h.shows(row{db.CertificateTable, certificate(1, was), certificate(1, good(was))})
	awaitTrouble(t, p, db.ErrRevocationsLost)
	victim.shows(t, 1, true)
}

// corrections are all that the master holds.
func (m *master) corrections(t *testing.T) []db.Correction {
	t.Helper()
	var all []db.Correction
	if err := m.store.Corrections(t.Context(), func(c db.Correction) error { all = append(all, c); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// resigns has the master hold a second note of each correction, by another key.
func (m *master) resigns(t *testing.T, by *feed.Key) {
	t.Helper()
	made := time.Now().UTC().Truncate(time.Second)
	var anew []db.Correction
	for _, c := range m.corrections(t) {
		n, err := m.keys.OpenCorrection(c.Note)
		if err != nil {
			t.Fatal(err)
		}
		n.CorrectedAt = made
		signed, err := n.Sign(by)
		if err != nil {
			t.Fatal(err)
		}
		c.CorrectedAt, c.Note = made, signed
		anew = append(anew, c)
	}
	if err := m.store.Master.ResignCorrections(t.Context(), anew, act); err != nil {
		t.Fatal(err)
	}
}

// follows is an index of the site, which verifies key sets under the master's root.
func (s *site) follows(t *testing.T, m *master) *index.Index {
	t.Helper()
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(t.Context(), open(t, dbtest.As(s.dsn, "ocsp_responder")).Site, index.Config{
		Poll: 10 * time.Millisecond,
		Trust: func(keys [][]byte) (index.Trust, error) {
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
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	runs(t, x.Run)
	return x
}

// The key for corrections was stolen: they are signed anew, which sites adopt, and then
// the set comes that bans it. A site that answers meanwhile is never in doubt; one that
// was away since before the corrections gets there by a snapshot.
func TestABanOfTheKeyForCorrectionsIsNoOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for several rounds")
	}
	t.Parallel()
	m, next := rotating(t)
	s, away, second := newSite(t), newSite(t), feedKey(t)
	m.issue(t, 1)
	m.issue(t, 2)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	m.sealed(t)
	s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	x := s.follows(t, m)
	for tries := 0; x.Ready() != nil; tries++ {
		if tries == 6000 {
			t.Fatal(x.Ready())
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, stop := away.pulls(t, m, nil, serve(t, m.store, m.latest, away.id, nil))
	away.equals(t, m)
	stop()
	doubts := make(chan string, 1)
	load := make(chan struct{})
	loading := make(chan struct{})
	go func() { // clients
		defer close(loading)
		for n := 1; ; n = 3 - n {
			select {
			case <-load:
				return
			default:
			}
			if _, h, err := x.Lookup(t.Context(), 1, serial(n)); err != nil || h.Doubt != "" {
				select {
				case doubts <- h.Doubt:
				default:
				}
			}
			time.Sleep(time.Millisecond / 2)
		}
	}()

	m.correct(t, 1)
	s.equals(t, m)
	both := m.publishes(t, m.store, func(k *feed.KeySet) { k.Correct = append(k.Correct, feedtest.Named(second)) })
	m.resigns(t, second)
	s.beats(t, m, m.store, both)
	s.equals(t, m)
	stolen := m.corrects
	m.keys = both
	banned := m.publishes(t, m.store, func(k *feed.KeySet) {
		k.Keys = append(k.Keys, named(next))
		k.Correct, k.Banned = []feed.FeedKey{feedtest.Named(second)}, []string{stolen.Verifier()}
	})
	s.beats(t, m, m.store, banned)
	m.keys = banned
	m.issue(t, 3)
	s.equals(t, m)
	s.shows(t, 1, false)
	close(load)
	<-loading
	select {
	case doubt := <-doubts:
		t.Errorf("the site was in doubt: %s", doubt)
	default:
	}

	snapshots := runs(t, publish.NewSnapshotter(publish.SnapshotterConfig{Store: m.store.Publisher, Key: m.key, Next: next, Keys: banned, Poll: 20 * time.Millisecond, Every: time.Millisecond, Log: quiet}).Run)
	defer snapshots()
	away.pulls(t, m, func(c *pull.Config) { c.Recount = time.Hour }, serve(t, m.store, m.latest, away.id, nil))
	away.equals(t, m)
	away.shows(t, 1, false)
}
