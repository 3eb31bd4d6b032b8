package pull_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"
)

// skew is what ocspd reads of this site's clock.
func (s *site) skew(tb testing.TB) (skew time.Duration, measured bool) {
	tb.Helper()
	err := s.store.Site.ReadTx(tb.Context(), func(_ context.Context, l *sitedb.ReadTx) error { skew, measured = l.Skew, l.HasSkew; return nil })
	if err != nil {
		tb.Fatal(err)
	}
	return skew, measured
}

// A site's clock is judged by the master's, by a round trip, whether the site is ahead
// or behind; by the master's alone: while it is away, or no source is the master, there
// is no measurement.
func TestClockIsJudgedByTheMasterAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, peer := newMaster(t), newSite(t)
	m.issue(t, 1)
	peer.pulls(t, m, nil, serve(t, m.store, m.latest, peer.id, nil))
	peer.equals(t, m)
	ahead := time.Duration(rand.Int64N(int64(3*time.Minute))) + 10*time.Minute
	for name, c := range map[string]struct {
		by     time.Duration
		master func(*site) *feedhttp.Client
		judged bool
	}{
		"ahead":       {ahead, func(s *site) *feedhttp.Client { return serveMaster(t, m.store, m.latest, s.id, nil) }, true},
		"behind":      {-4 * time.Minute, func(s *site) *feedhttp.Client { return serveMaster(t, m.store, m.latest, s.id, nil) }, true},
		"unreachable": {ahead, func(s *site) *feedhttp.Client { return serveMaster(t, m.store, m.latest, s.id, away) }, false},
		"a peer":      {ahead, func(s *site) *feedhttp.Client { return serveLiar(t, m, s.id) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.pulls(t, m, func(p *pull.Config) {
				p.CheckIn, p.StaleAfter, p.Now = 50*time.Millisecond, time.Hour, func() time.Time { return time.Now().Add(c.by) }
			}, c.master(s), serve(t, peer.sync, peer.latest, s.id, nil))
			s.equals(t, m)
			if c.judged {
				eventually(t, "the clock is judged", func() bool { _, measured := s.skew(t); return measured })
			} else {
				time.Sleep(300 * time.Millisecond) // six visits of a site that had a master
			}
			skew, measured := s.skew(t)
			if off := (skew - c.by).Abs(); measured != c.judged || measured && off > 10*time.Second {
				t.Errorf("measured %t, %v ahead, want %t, %v", measured, skew, c.judged, c.by)
			}
		})
	}
}

// away is a master that breaks off every talk.
func away(http.Handler) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// serveLiar is a source that is not configured as the master, and shows a clock.
func serveLiar(tb testing.TB, m *master, id *feedhttp.Identity) *feedhttp.Client {
	tb.Helper()
	return serve(tb, m.store, m.latest, id, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/feed/clock" {
				tb.Error("a source that is not the master was asked for its clock")
			}
			h.ServeHTTP(w, r)
		})
	})
}
