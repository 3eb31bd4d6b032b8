package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ocspfleet/cmd/internal/printable"
)

// Admin answers the staff's and the monitors' questions about one process.
type Admin struct {
	// Ready returns why the daemon should get no requests, nothing when it
	// should. It does the real thing and is asked at each /readyz.
	Ready func(context.Context) []string
	// Forks are contradictions of the feed that stand; /readyz names them, and says 200 all
	// the same. May be nil.
	Forks func() []string
	// Metrics is shown at /metrics.
	Metrics prometheus.Gatherer
	// Level is shown and set at /debug/loglevel.
	Level *slog.LevelVar

	starting atomic.Pointer[string] // why it is not ready yet; nil from Plan.Run on
	stopping atomic.Bool            // set by Plan.Run
}

// Starting has /readyz say what the start waits for, until Plan.Run; before it neither
// Ready nor Forks is asked.
func (a *Admin) Starting(why string) { a.starting.Store(&why) }

// NewRegistry returns a registry that already tells of Go, process and build.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
	)
	return r
}

// Handler serves /healthz, /readyz, /metrics, /debug/pprof/ and /debug/loglevel.
func (a *Admin) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(forLoopback)
	// healthz says that the process can answer, no more: who restarts on it
	// must not restart a daemon whose database is down.
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	r.Get("/readyz", a.readyz)
	r.Handle("/metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}))
	r.Get("/debug/loglevel", a.showLevel)
	r.Put("/debug/loglevel", a.setLevel)
	r.HandleFunc("/debug/pprof/*", pprof.Index)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return r
}

// forLoopback refuses requests for another host than this machine. A web page whose
// name an attacker makes point to 127.0.0.1 (DNS rebinding) would else read profiles and
// metrics with the browser of whoever opens it here; the browser names that host.
// HTTP/1.0 checks of balancers name none, which no browser does.
func forLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "this listener answers for 127.0.0.1, [::1] and localhost alone", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback judges a Host header, with its port or without.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && addr.IsLoopback()
}

// readiness is the body of /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
	Forks   []string `json:"forks,omitempty"`
}

func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	var reasons, forks []string
	why := a.starting.Load()
	switch {
	case a.stopping.Load():
		reasons = []string{"stopping"}
	case why != nil:
		reasons = []string{*why}
	case a.Ready != nil:
		reasons = a.Ready(r.Context())
	}
	if why == nil && a.Forks != nil {
		forks = a.Forks()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(printable.Writer(w)).Encode(readiness{len(reasons) == 0, reasons, forks}) // the asker went away
}

func (a *Admin) showLevel(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, a.Level.Level())
}

// setLevel takes debug, info, warn or error, and offsets such as info+2.
func (a *Admin) setLevel(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
	var level slog.Level
	if err == nil {
		err = level.UnmarshalText(bytes.TrimSpace(body))
	}
	if err != nil {
		http.Error(w, "want one of debug, info, warn, error", http.StatusBadRequest)
		return
	}
	a.Level.Set(level)
	a.showLevel(w, r)
}
