package pull_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/sync/feed"
	"ocspfleet/sync/pull"
)

// swarm is some sites that prefer each other to the master.
type swarm struct {
	*master
	sites []*site
	// asked counts the master's answers; bulk those with segments or chunks alone.
	asked, bulk atomic.Int64
}

func (w *swarm) counts(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(rw, r)
		if r.Context().Err() == nil {
			w.asked.Add(1)
		}
		if strings.HasPrefix(r.URL.Path, "/feed/snapshot/") {
			w.bulk.Add(1)
		}
	})
}

func newSwarm(t *testing.T, n int, change func(*pull.Config)) *swarm {
	t.Helper()
	w := &swarm{master: newMaster(t)}
	w.issue(t, 1)
	runs(t, func(ctx context.Context) error { // who hears nothing has lost the way, and asks the master
		for ctx.Err() == nil {
			_, _, _ = w.store.Heartbeat(ctx, -1) // the test's end cancels it
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	})
	for range n {
		w.sites = append(w.sites, newSite(t))
	}
	for i, s := range w.sites {
		sources := []*feed.Client{serve(t, w.store, w.board, s.id, w.counts)}
		for j, peer := range w.sites {
			if i != j {
				sources = append(sources, serve(t, peer.sync, peer.board, s.id, nil))
			}
		}
		s.pulls(t, w.master, func(c *pull.Config) {
			c.PreferPeers, c.Wait, c.StaleAfter, c.Recount, c.Backoff = true, 2*time.Second, 5*time.Second, time.Hour, 10*time.Millisecond
			if change != nil {
				change(c)
			}
		}, sources...)
		s.equals(t, w.master)
	}
	return w
}

// All sites of a swarm get all news, and only the first of them had its copy from
// the master.
func TestSwarmIsFedFromItself(t *testing.T) {
	w := newSwarm(t, 4, nil)
	chunks := w.bulk.Load()
	if chunks == 0 || chunks > 2 { // a manifest and its one chunk
		t.Errorf("the master gave %d files of snapshots for 4 sites, want those for one", chunks)
	}
	began, beats := w.asked.Load(), w.board.Newest().AsOf
	const events = 40
	for n := range events {
		w.issue(t, 100+n)
		w.sealed(t)
		if n%10 == 9 {
			for _, s := range w.sites {
				s.equals(t, w.master)
			}
		}
	}
	t.Logf("the master answered %d times for %d segments in %v at %d sites", w.asked.Load()-began, events, w.board.Newest().AsOf.Sub(beats), len(w.sites))
}

// With the master gone, a new site of the swarm is still seeded, wholly by peers.
func TestSwarmSeedsWithoutTheMaster(t *testing.T) {
	w := newSwarm(t, 2, nil)
	late := newSite(t)
	dead := unreachable(t, late.id)
	late.pulls(t, w.master, func(c *pull.Config) { c.PreferPeers = true },
		dead, serve(t, w.sites[0].sync, w.sites[0].board, late.id, nil), serve(t, w.sites[1].sync, w.sites[1].board, late.id, nil))
	late.equals(t, w.master)
}

// A peer that stands still harms nobody who asks two: the other's news are taken.
func TestFrozenPeerIsOutvoted(t *testing.T) {
	m, s, a := newMaster(t), newSite(t), newSite(t)
	a.pulls(t, m, nil, serve(t, m.store, m.board, a.id, nil))
	a.equals(t, m)
	var on atomic.Bool
	on.Store(true)
	frozen := serve(t, a.sync, a.board, s.id, replay(&on))
	s.pulls(t, m, func(c *pull.Config) { c.PreferPeers = true }, serve(t, m.store, m.board, s.id, nil), frozen, serve(t, a.sync, a.board, s.id, nil))
	s.equals(t, m)
	for n := range 10 {
		m.issue(t, 10+n)
		s.equals(t, m)
	}
}
