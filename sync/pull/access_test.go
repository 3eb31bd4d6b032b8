package pull_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"

	"github.com/prometheus/client_golang/prometheus"
)

// denying refuses as the master does while it is told a state.
func denying(state *atomic.Value) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if text := state.Load().(string); text != "" {
				http.Error(w, text, http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

// accessDenied is what ocspd reads.
func (s *site) accessDenied(tb testing.TB) string {
	tb.Helper()
	var why string
	err := s.store.Site.ReadTx(tb.Context(), func(_ context.Context, l *sitedb.ReadTx) error { why = l.AccessDenied; return nil })
	if err != nil {
		tb.Fatal(err)
	}
	return why
}

func (s *site) awaitDenied(tb testing.TB, want bool) {
	tb.Helper()
	for range 6000 {
		if s.accessDenied(tb) != "" == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Fatalf("access denied: %q, want %t", s.accessDenied(tb), want)
}

// The master's refusal is noted for ocspd, however the rows come, and gone when the
// master answers again.
func TestTheMastersRefusalBarsTheSite(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	for name, prefer := range map[string]bool{"master first": false, "peers first": true} {
		t.Run(name, func(t *testing.T) {
			m, a, s := newMaster(t), newSite(t), newSite(t)
			a.pulls(t, m, nil, serve(t, m.store, m.latest, a.id, nil))
			a.equals(t, m)
			var state atomic.Value
			state.Store("")
			fromMaster := serveMaster(t, m.store, m.latest, s.id, denying(&state))
			dbtest.Exec(t, s.dsn, "update site_state set access_denied = 'by an earlier run'")
			_, stop := s.pulls(t, m, nil, fromMaster)
			s.equals(t, m)
			s.awaitDenied(t, false)
			state.Store("suspended")
			s.awaitDenied(t, true)
			stop()
			p, _ := s.pulls(t, m, func(c *pull.Config) { c.PreferPeers = prefer; c.StaleAfter = time.Second }, fromMaster, serve(t, a.sync, a.latest, s.id, nil))
			m.issue(t, 1)
			s.equals(t, m) // by the peer
			s.awaitDenied(t, true)
			if !prefer {
				eventually(t, "the puller says so", func() bool { return strings.Contains(p.State().Trouble, "suspended or revoked") })
			}
			state.Store("")
			s.awaitDenied(t, false)
			eventually(t, "it says so no more", func() bool { return !strings.Contains(p.State().Trouble, "suspended or revoked") })
		})
	}
}

// A peer that claims that this site is revoked, and a master that does not know the
// site at all, deny nobody.
func TestNobodyElseBarsASite(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	var lie, stranger atomic.Value
	lie.Store("revoked")
	stranger.Store("Forbidden")
	registry := prometheus.NewRegistry()
	s.pulls(t, m, func(c *pull.Config) { c.Metrics = pull.NewMetrics(registry) },
		serve(t, m.store, m.latest, s.id, denying(&lie)), serveMaster(t, m.store, m.latest, s.id, denying(&stranger)), serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	eventually(t, "both refused", func() bool { return metric(t, registry, "ocspsyncd_pull_faults_total", string(pull.Refused)) >= 4 })
	if why := s.accessDenied(t); why != "" {
		t.Errorf("the site is denied access: %s", why)
	}
}

// A site of a swarm hears from the master itself that access is denied, and that this is
// over, though its peers feed it all the while and nothing new comes.
func TestSiteOfASwarmIsDeniedAndLetInByTheMastersWord(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a swarm of sites")
	}
	t.Parallel()
	m := newMaster(t)
	m.issue(t, 1)
	w := newSwarm(t, 3, m, nil)
	var state atomic.Value
	state.Store("")
	s := newSite(t)
	sources := []*feedhttp.Client{serveMaster(t, m.store, m.latest, s.id, denying(&state))}
	for _, peer := range w.sites {
		sources = append(sources, serveAs(t, peer, s.id))
	}
	s.pulls(t, m, func(c *pull.Config) {
		c.PreferPeers, c.Wait, c.StaleAfter, c.Recount, c.CheckIn = true, 80*time.Second, time.Hour, time.Hour, 20*time.Millisecond
	}, sources...)
	s.equals(t, m)
	for range 2 {
		state.Store("suspended")
		s.awaitDenied(t, true)
		state.Store("")
		s.awaitDenied(t, false)
	}
	m.issue(t, 2)
	s.equals(t, m)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
