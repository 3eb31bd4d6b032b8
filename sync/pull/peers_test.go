package pull_test

import (
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"
)

// swarm is some sites that prefer each other to the master.
type swarm struct {
	*master
	sites []*site
	lines []*counted // to the master, one for each site
	peers []*counted // between two sites
	// What the master gave: answers with news or segments, their octets, and files of
	// snapshots.
	answers, octets, files atomic.Int64
}

// sized counts the octets of an answer.
type sized struct {
	http.ResponseWriter
	code   int
	octets int64
}

func (s *sized) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }
func (s *sized) Write(b []byte) (int, error) {
	n, err := s.ResponseWriter.Write(b)
	s.octets += int64(n)
	return n, err
}
func (s *sized) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (w *swarm) counts(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		to := &sized{ResponseWriter: rw, code: http.StatusOK}
		h.ServeHTTP(to, r)
		switch path := r.URL.Path; {
		case to.code != http.StatusOK:
		case strings.HasPrefix(path, "/feed/snapshot/"):
			w.files.Add(1)
		case path == "/feed/news", strings.HasPrefix(path, "/feed/segment/"):
			w.answers.Add(1)
			w.octets.Add(to.octets)
		}
	})
}

// newSwarm starts n sites at once. Nothing but news ends a poll, and nobody is late:
// what the master gives is told by the swarm's order alone.
func newSwarm(tb testing.TB, n int, m *master, change func(*pull.Config)) *swarm {
	tb.Helper()
	w := &swarm{master: m}
	for range n {
		w.sites = append(w.sites, newSite(tb))
	}
	for i, s := range w.sites {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		line := &counted{Listener: l}
		w.lines = append(w.lines, line)
		sources := []*feedhttp.Client{serveOn(tb, line, w.store, w.latest, s.id, w.counts)}
		for j, peer := range w.sites {
			if i != j {
				client, line := lineTo(tb, peer, s.id)
				sources, w.peers = append(sources, client), append(w.peers, line)
			}
		}
		s.pulls(tb, w.master, func(c *pull.Config) {
			c.PreferPeers, c.Wait, c.StaleAfter, c.Recount, c.Backoff = true, 80*time.Second, time.Hour, time.Hour, 10*time.Millisecond
			if change != nil {
				change(c)
			}
		}, sources...)
	}
	for _, s := range w.sites {
		s.equals(tb, w.master)
	}
	return w
}

// serveAs serves what a site has verified under its own key, as its peers know it.
func serveAs(tb testing.TB, s *site, caller *feedhttp.Identity) *feedhttp.Client {
	tb.Helper()
	client, _ := lineTo(tb, s, caller)
	return client
}

func lineTo(tb testing.TB, s *site, caller *feedhttp.Identity) (*feedhttp.Client, *counted) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	line := &counted{Listener: l}
	return askedAt(tb, line, s.sync, s.latest, s.id, caller, nil, false), line
}

// line is what went between the swarm and its master, TLS and HTTP included.
func (w *swarm) line() int64 { return sum(w.lines) }

// between is what went between its sites.
func (w *swarm) between() int64 { return sum(w.peers) }

func sum(lines []*counted) (octets int64) {
	for _, l := range lines {
		octets += l.octets.Load()
	}
	return octets
}

// tells does something at the master n times, and waits each time until all have it.
func (w *swarm) tells(tb testing.TB, n int, do func(i int)) {
	tb.Helper()
	for i := range n {
		do(i)
		want, err := w.store.Head(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		for _, s := range w.sites {
			s.reaches(tb, want)
		}
	}
}

// reaches waits until the site knows of a head.
func (s *site) reaches(tb testing.TB, want db.Head) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		got, err := s.store.Head(tb.Context())
		if err == nil && got.Position >= want.Position && !got.AsOf.Before(want.AsOf) {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the site is at %d of %d, of %v (%v)", got.Position, want.Position, got.AsOf, err)
		}
	}
}

// The master of eight sites gives as much as that of two: each piece of news twice,
// its snapshot once or so. A broken connection or the end of an hour may cost some
// more; eight sites that asked it themselves would have eight answers each.
func TestTheMastersTrafficDoesNotGrowWithTheSwarm(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a swarm of sites")
	}
	t.Parallel()
	m := newMaster(t)
	m.issue(t, 1)
	m.sealed(t)
	const events, size = 15, 400 // octets of an answer with one certificate, at most
	for _, n := range []int{2, 8} {
		w := newSwarm(t, n, m, nil)
		if files := w.files.Load(); files < 1 || files > int64(n+1)/2 {
			t.Errorf("%d sites that began at once got %d files of the master's snapshot, want those for one", n, files)
		}
		serial := 1000 * n
		tells := func(events int) (answers, octets int64) {
			answers, octets = w.answers.Load(), w.octets.Load()
			w.tells(t, events, func(int) { serial++; m.issue(t, serial) })
			return w.answers.Load() - answers, w.octets.Load() - octets
		}
		eventually(t, "two sites ask the master", func() bool { answers, _ := tells(1); return answers <= feedersWanted })
		answers, octets := tells(events)
		t.Logf("%d sites: %d answers of the master with %d octets for %d segments", n, answers, octets, events)
		if most := int64(feedersWanted+1) * events; answers > most || octets > most*size {
			t.Errorf("the master gave %d sites %d answers with %d octets for %d segments, want %d answers for each", n, answers, octets, events, feedersWanted)
		}
	}
}

// feedersWanted is how many of a swarm's sites ask the master for news.
const feedersWanted = 2

// With the master gone, a new site of the swarm is still seeded, wholly by peers.
func TestSwarmSeedsWithoutTheMaster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a swarm of sites")
	}
	t.Parallel()
	m := newMaster(t)
	m.issue(t, 1)
	w := newSwarm(t, 2, m, nil)
	late := newSite(t)
	dead := unreachable(t, late.id)
	late.pulls(t, w.master, func(c *pull.Config) { c.PreferPeers = true },
		dead, serve(t, w.sites[0].sync, w.sites[0].latest, late.id, nil), serve(t, w.sites[1].sync, w.sites[1].latest, late.id, nil))
	late.equals(t, w.master)
}

// A peer that stands still harms nobody who asks two: the other's news are taken.
func TestFrozenPeerIsOutvoted(t *testing.T) {
	t.Parallel()
	m, s, a := newMaster(t), newSite(t), newSite(t)
	a.pulls(t, m, nil, serve(t, m.store, m.latest, a.id, nil))
	a.equals(t, m)
	var on atomic.Bool
	on.Store(true)
	frozen := serve(t, a.sync, a.latest, s.id, replay(&on))
	s.pulls(t, m, func(c *pull.Config) { c.PreferPeers = true }, serve(t, m.store, m.latest, s.id, nil), frozen, serve(t, a.sync, a.latest, s.id, nil))
	s.equals(t, m)
	for n := range 10 {
		m.issue(t, 10+n)
		s.equals(t, m)
	}
}
