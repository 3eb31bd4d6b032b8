package pull_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"

	"github.com/prometheus/client_golang/prometheus"
)

// journal keeps what is logged.
type journal struct {
	mu    sync.Mutex // guards lines
	lines bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines.Write(b)
}

// left counts the lines that say that a source was left for a fault.
func (j *journal) left(tb testing.TB, source string, fault pull.Fault) (n int) {
	tb.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for line := range strings.Lines(j.lines.String()) {
		var entry struct{ Msg, Source, Fault string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			tb.Fatal(err)
		}
		if entry.Msg == "source left" && entry.Source == source && entry.Fault == string(fault) {
			n++
		}
	}
	return n
}

// metric reads one value of a registry, summed over the labels that are not named.
func metric(tb testing.TB, registry *prometheus.Registry, name, label string) (sum float64) {
	tb.Helper()
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// instead answers some paths in another way.
func instead(prefix string, answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, prefix) {
				answer(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

// oneBack serves the file before the one that was asked for.
func oneBack(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if number, found := strings.CutPrefix(r.URL.Path, "/feed/segment/"); found {
			if n, err := strconv.Atoi(number); err == nil && n > 1 {
				r.URL.Path = "/feed/segment/" + strconv.Itoa(n-1)
			}
		}
		h.ServeHTTP(w, r)
	})
}

func missing(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

func endless(w http.ResponseWriter, r *http.Request) {
	for zeros := make([]byte, 64<<10); r.Context().Err() == nil; {
		if _, err := w.Write(zeros); err != nil {
			return
		}
	}
}

func silent(_ http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(time.Minute):
	}
}

func chat(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("\x00hello")) }

// Whatever a source does, it is named once in the log, counted under its fault, and
// left for another; nothing of it is stored.
func TestEachFaultIsNamedAndAnotherSourceIsAsked(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for slow sources")
	}
	t.Parallel()
	m := newMaster(t)
	var always atomic.Bool
	always.Store(true)
	for _, c := range []struct {
		fault pull.Fault
		wrap  func(http.Handler) http.Handler
	}{
		{pull.Mixed, oneBack},
		{pull.Gap, func(h http.Handler) http.Handler {
			return instead("/feed/segment", missing)(instead("/feed/snapshot", missing)(h))
		}},
		{pull.Forged, tamper(&always, "/feed/segment")},
		{pull.Endless, instead("/feed/news", endless)},
		{pull.Malformed, instead("/feed/news", chat)},
		{pull.Slow, instead("/feed/news", silent)},
		{pull.Refused, instead("/feed", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })},
		{pull.Unreachable, nil},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			s := newSite(t)
			good := serve(t, m.store, m.latest, s.id, nil)
			_, stop := s.pulls(t, m, nil, good)
			s.equals(t, m)
			stop()
			for range 3 { // more than one file is missing here then
				m.issue(t, int(m.position(t))+1000)
				m.sealed(t)
			}
			bad := unreachable(t, s.id)
			if c.wrap != nil {
				bad = serve(t, m.store, m.latest, s.id, c.wrap)
			}
			log, registry := &journal{}, prometheus.NewRegistry()
			s.pulls(t, m, func(cfg *pull.Config) {
				cfg.Log, cfg.Metrics = slog.New(slog.NewJSONHandler(log, nil)), pull.NewMetrics(registry)
			}, bad, good)
			s.equals(t, m)
			counted := func() float64 { return metric(t, registry, "ocspsyncd_pull_faults_total", string(c.fault)) }
			want := 1.0
			switch c.fault {
			case pull.Mixed, pull.Gap, pull.Forged: // once the other source has helped, nothing is wrong with its news
			default:
				want = 2
			}
			for tries := 0; counted() < want; tries++ {
				if tries == 6000 {
					t.Fatalf("the fault was counted %v times, all faults %v times", counted(), metric(t, registry, "ocspsyncd_pull_faults_total", ""))
				}
				time.Sleep(10 * time.Millisecond)
			}
			if n := log.left(t, bad.String(), c.fault); n != 1 {
				t.Errorf("%d lines name the source and the fault, want 1", n)
			}
		})
	}
}

// sealed waits until all that is committed is sealed.
func (m *master) sealed(tb testing.TB) {
	tb.Helper()
	at := m.position(tb)
	if n := m.latest.Wait(tb.Context(), time.Minute, func(n db.FeedNote) bool { return n.Position >= at }); n.Position < at {
		tb.Fatalf("sealed up to %d of %d", n.Position, at)
	}
}

// unreachable is a source where nobody listens.
func unreachable(tb testing.TB, id *feedhttp.Identity) *feedhttp.Client {
	tb.Helper()
	client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://127.0.0.1:1", Identity: id, Stall: time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}
