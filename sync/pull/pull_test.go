package pull_test

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"
)

// Confirmations move the site's horizon while nothing happens.
func TestIdleMasterKeepsTheSiteYoung(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	asOf, _, err := m.store.Publisher.Heartbeat(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	for range 6000 {
		if head, err := s.store.Head(t.Context()); err == nil && !head.AsOf.Before(asOf) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the site's horizon stood still")
}

// A third site knows only the second; the master is not even asked.
func TestRelaySeedsAndFeedsAPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, a, b := newMaster(t), newSite(t), newSite(t)
	m.issue(t, 1)
	a.pulls(t, m, nil, serve(t, m.store, m.latest, a.id, nil))
	a.equals(t, m)
	b.pulls(t, m, nil, serve(t, a.sync, a.latest, b.id, nil))
	b.equals(t, m)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	b.equals(t, m)
}

// tamper flips an octet in the middle of what some paths answer, while on.
func tamper(on *atomic.Bool, prefix string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if on.Load() && len(r.URL.Path) >= len(prefix) && r.URL.Path[:len(prefix)] == prefix {
				w = flipper{w}
			}
			h.ServeHTTP(w, r)
		})
	}
}

type flipper struct{ http.ResponseWriter }

func (f flipper) Write(b []byte) (int, error) {
	forged := append([]byte(nil), b...)
	forged[len(forged)/2] ^= 1
	return f.ResponseWriter.Write(forged)
}

// Whatever a source forges, nothing of it is stored; another source is asked.
func TestTamperingSourceIsLeftForAnother(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	for _, path := range []string{"/feed/news", "/feed/segment", "/feed/snapshot", "/feed/keys"} {
		m, s := newMaster(t), newSite(t)
		m.issue(t, 1)
		var on atomic.Bool
		on.Store(true)
		evil := serve(t, m.store, m.latest, s.id, tamper(&on, path))
		_, stop := s.pulls(t, m, nil, evil)
		time.Sleep(300 * time.Millisecond)
		m.revoke(t, 1, db.ReasonKeyCompromise)
		time.Sleep(300 * time.Millisecond)
		if path != "/feed/segment" { // the copy could be seeded, and is then as it was
			if _, err := s.store.Head(t.Context()); !errors.Is(err, db.ErrNoHead) {
				t.Errorf("%s: forged, and yet there is a copy (%v)", path, err)
			}
		}
		stop()
		s.pulls(t, m, nil, evil, serve(t, m.store, m.latest, s.id, nil))
		s.equals(t, m)
	}
}

// Any bit of any answer may be another: what the site has stays what was signed, row
// by row, and it goes on as soon as answers are whole again.
func TestAnyBitOfAnyAnswerTampered(t *testing.T) {
	if testing.Short() {
		t.Skip("tampers with each bit")
	}
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	m.issue(t, 1)
	var on atomic.Bool
	var flipped atomic.Int64
	evil := serve(t, m.store, m.latest, s.id, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if on.Load() {
				flipped.Add(1)
				w = anyFlipper{w}
			}
			h.ServeHTTP(w, r)
		})
	})
	s.pulls(t, m, func(c *pull.Config) { c.Backoff, c.KeysEvery = time.Millisecond, time.Millisecond }, evil)
	s.equals(t, m)
	eventually(t, "a checkpoint is kept", func() bool { _, err := s.store.FeedNote(t.Context()); return err == nil }) // it comes after the snapshot
	for round := range 3 {
		on.Store(true)
		before := flipped.Load()
		for n := 0; flipped.Load() < before+30 && n < 3000; n++ {
			if n < 20 {
				m.issue(t, 1000*round+100+n)
			}
			if !s.verified(t) {
				t.Error("the rows are not those that the head counts")
			}
			if n, err := s.store.FeedNote(t.Context()); err != nil {
				t.Error(err)
			} else if _, err := m.keys.OpenCheckpoint(n.Note); err != nil {
				t.Errorf("a forged checkpoint is kept: %v", err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if flipped.Load() < before+30 {
			t.Errorf("only %d answers were tampered with", flipped.Load()-before)
		}
		on.Store(false)
		s.equals(t, m)
	}
	if forks, err := s.store.Site.Forks(t.Context()); err != nil || len(forks) != 0 {
		t.Errorf("%d forks were seen in what nobody signed (%v)", len(forks), err)
	}
}

type anyFlipper struct{ http.ResponseWriter }

func (f anyFlipper) Write(b []byte) (int, error) {
	forged := append([]byte(nil), b...)
	forged[rand.IntN(len(forged))] ^= 1 << rand.IntN(8)
	return f.ResponseWriter.Write(forged)
}

// Two histories under one key: the site stays with the one it has, and keeps both.
func TestForkIsRefusedAndKept(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	m.issue(t, 1)
	_, stop := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	stop()
	other := newMaster(t)
	dbtest.Exec(t, other.dsn, "delete from segment") // a second publisher with the same keys and epoch
	other.root, other.key = m.root, m.key
	second := *m.keys
	dbtest.Exec(t, other.dsn, "alter table feed_head disable trigger all; update feed_head set epoch = "+strconv.FormatInt(m.keys.Epoch, 10)+"; delete from feed_checkpoint; delete from feed_keys")
	other.keys, other.latest = &second, &feedhttp.Latest{}
	other.names(t, feedKey(t))
	other.issue(t, 2)
	other.seals(t)
	before, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.pulls(t, m, nil, serve(t, other.store, other.latest, s.id, nil))
	for range 6000 {
		other.issue(t, int(time.Now().UnixNano()&0xffffff)+100)
		if n, err := s.store.Site.Forks(t.Context()); err == nil && len(n) > 0 {
			if after, err := s.store.Head(t.Context()); err != nil || after.Position != before.Position || after.Certificates != before.Certificates {
				t.Errorf("the fork was followed: %+v, %v", after, err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no evidence of the fork was kept")
}

// The puller is stopped at random a hundred times while it applies: no gap, no
// double, and the digest is equal in the end.
func TestPullerStoppedAHundredTimes(t *testing.T) {
	if testing.Short() {
		t.Skip("stops a puller a hundred times")
	}
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	client := serve(t, m.store, m.latest, s.id, nil)
	for n := range 100 {
		_, stop := s.pulls(t, m, nil, client)
		m.issue(t, n)
		m.revoke(t, n, db.ReasonSuperseded)
		time.Sleep(time.Duration(n%30) * time.Millisecond)
		stop()
	}
	s.pulls(t, m, nil, client)
	s.equals(t, m)
}
