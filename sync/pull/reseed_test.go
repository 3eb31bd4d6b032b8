package pull_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/publish"
)

// eager is a site whose copy has revocations that are newer than the newest snapshot.
func eager(t *testing.T) (m *master, s *site, stop func()) {
	t.Helper()
	m, s = prepare(t), newSite(t)
	dbtest.Exec(t, m.dsn, `select certificate_issue(1, '\x50', '2099-01-01Z', '', '');
		select responder_add('site-a', 'http://a', '{}', '', '');
		insert into responder_planned values (1, '\x50', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x50', 'site-a', sha256('k'), '\x3000', '', '')`)
	m.issue(t, 1)
	m.issue(t, 2)
	ends := runs(t, publish.NewSnapshotter(publish.SnapshotterConfig{Store: m.store.Publisher, Key: m.key, Keys: m.keys, Poll: 20 * time.Millisecond, Log: quiet}).Run)
	m.seals(t)
	_, stop = s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	ends() // there is no newer snapshot
	m.revoke(t, 1, db.ReasonKeyCompromise)
	m.correct(t, 1)
	m.revoke(t, 2, db.ReasonKeyCompromise)
	s.equals(t, m)
	return m, s, stop
}

// Damage outside the certificates, with revocations that are newer than the newest
// snapshot: the copy is seeded from that and the segments after it, at once, and nobody
// says that the master had lost them. No ocspd answers from what lies between.
func TestDamageBesideTheCertificatesHeals(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for several rounds")
	}
	t.Parallel()
	m, s, _ := eager(t)
	x := s.follows(t, m)
	eventually(t, "ready", func() bool { return x.Ready() == nil })
	for n, sql := range []string{
		"delete from responder_certificate",
		"update issuer set validity = validity + 1",
		"delete from issuer",
		"delete from correction",
		"update feed_head set position = position - 1",
		"delete from feed_head",
	} {
		dbtest.Exec(t, s.dsn, sql)
		m.issue(t, 10+n)
		s.equals(t, m)
		eventually(t, "ready after "+sql, func() bool { return x.Ready() == nil && x.Horizon().Position == m.position(t) })
		for serialOf, revoked := range map[int]bool{1: false, 2: true} {
			if status, _, err := x.Lookup(t.Context(), 1, serial(serialOf)); err != nil || status.Permanent() != revoked {
				t.Errorf("after %q %d is %+v, %v", sql, serialOf, status, err)
			}
		}
	}
}

// A damaged copy whose way forward is withheld does not go back to an older snapshot: an
// ocspd that starts then says what the site knew.
func TestACopyIsTakenOverOnlyOnceItHasCaughtUp(t *testing.T) {
	t.Parallel()
	var withheld atomic.Bool
	var asked atomic.Int64
	m, s, stop := eager(t)
	stop()
	before, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	withheld.Store(true)
	dbtest.Exec(t, s.dsn, "delete from certificate where serial = '\\x400000000000000001'")
	source := serve(t, m.store, m.latest, s.id, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if withheld.Load() && strings.HasPrefix(r.URL.Path, "/feed/segment/") {
				asked.Add(1)
				http.NotFound(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	_, stop = s.pulls(t, m, nil, source)
	eventually(t, "segments are asked for", func() bool { return asked.Load() > 3 })
	stop()
	if head, err := s.store.Head(t.Context()); err != nil || head.Position != before.Position {
		t.Errorf("the copy went to position %d, it was at %d (%v)", head.Position, before.Position, err)
	}
	x := s.follows(t, m)
	s.pulls(t, m, nil, source)
	for range 50 {
		if status, h, err := x.Lookup(t.Context(), 1, serial(2)); !errors.Is(err, index.ErrNotReady) && !status.Permanent() && h.Doubt == "" {
			t.Fatalf("2 is %+v, %v, at %+v", status, err, h)
		}
	}
	withheld.Store(false)
	s.equals(t, m)
	eventually(t, "ready", func() bool { return x.Ready() == nil })
	if status, _, err := x.Lookup(t.Context(), 1, serial(2)); err != nil || !status.Permanent() {
		t.Errorf("2 is %+v, %v", status, err)
	}
}
