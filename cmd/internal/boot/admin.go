package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"syscall"

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
	// Metrics is shown at /metrics.
	Metrics prometheus.Gatherer
	// Level is shown and set at /debug/loglevel.
	Level *slog.LevelVar

	stopping atomic.Bool // set by Plan.Run
}

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

// readiness is the body of /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
}

func (a *Admin) readyz(w http.ResponseWriter, r *http.Request) {
	var reasons []string
	if a.stopping.Load() {
		reasons = []string{"stopping"}
	} else if a.Ready != nil {
		reasons = a.Ready(r.Context())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(printable.Writer(w)).Encode(readiness{Ready: len(reasons) == 0, Reasons: reasons}) // the asker went away
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

// ListenAdmin listens on addr for the admin. An address that is not loopback is
// refused unless allowRemote: profiles and metrics tell much, and nobody logs in.
func ListenAdmin(ctx context.Context, addr string, allowRemote bool) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("resolving the admin address %q: %w", addr, err)
	}
	if !resolved.IP.IsLoopback() && !allowRemote {
		return nil, fmt.Errorf("listening for the admin on %q: it is not a loopback address: choose 127.0.0.1, or allow it explicitly", addr)
	}
	return Listen(ctx, addr)
}

// Listen listens on a TCP address and says plainly when it is taken.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listening on %s: the port is already taken: stop what listens there or choose another port", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listening on %s: not allowed: a port below 1024 needs root or CAP_NET_BIND_SERVICE", addr)
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l, nil
}
