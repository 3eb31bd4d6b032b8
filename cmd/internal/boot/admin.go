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

// Admin serves the state of one process to staff and monitoring.
type Admin struct {
	// Ready returns the reasons why the daemon should get no requests, empty when it should. It
	// is called at each /readyz and checks the real state.
	Ready func(context.Context) []string
	// Forks are open contradictions of the feed; /readyz names them, and is still 200. May be
	// nil.
	Forks func() []string
	// Metrics is shown at /metrics.
	Metrics prometheus.Gatherer
	// Level is shown and set at /debug/loglevel.
	Level *slog.LevelVar

	starting atomic.Pointer[string] // why it is not ready yet; nil after Plan.Run
	stopping atomic.Bool            // set by Plan.Run
}

// Starting sets what /readyz reports until Plan.Run; until then neither Ready nor Forks is
// called.
func (a *Admin) Starting(why string) { a.starting.Store(&why) }

// NewRegistry returns a registry with the metrics of Go, process and build.
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
	// healthz says only that the process can answer: a restart because of it must not hit a
	// daemon whose database is down.
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

// forLoopback refuses requests for another host than this machine. Otherwise a web page whose
// name an attacker points to 127.0.0.1 (DNS rebinding) could read profiles and metrics through
// the browser of a user here; the browser sends that name as host. HTTP/1.0 checks of balancers
// send no host, which no browser does.
func forLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) {
			http.Error(w, "this listener answers for 127.0.0.1, [::1] and localhost alone", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback checks a Host header, with or without port.
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
	_ = json.NewEncoder(printable.Writer(w)).Encode(readiness{len(reasons) == 0, reasons, forks}) // the client has disconnected
}

func (a *Admin) showLevel(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, a.Level.Level())
}

// setLevel accepts debug, info, warn or error, and offsets such as info+2.
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
