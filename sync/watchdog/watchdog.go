package watchdog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"ocspfleet/db/publisherdb"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Config is the database to watch, and the limits.
type Config struct {
	// Store is the master's database, by a login in ocsp_publisher. The watchdog keeps two of
	// its connections.
	Store *publisherdb.DB
	// Limits are how long a session may make others wait; zero values: the defaults.
	Limits Limits
	// Poll is the pause between two readings. Default 250 ms.
	Poll time.Duration
	// Log receives what was done.
	Log *slog.Logger
	// Metrics counts what was done; nil: none.
	Metrics *Metrics
}

// Metrics counts what the watchdog does.
type Metrics struct {
	ended  prometheus.Counter
	spared prometheus.Gauge
}

// NewMetrics registers the metrics of the watchdog; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	return &Metrics{
		ended:  auto.NewCounter(prometheus.CounterOpts{Name: "ocspsyncd_watchdog_ended_total", Help: "Sessions that made others wait and were ended."}),
		spared: auto.NewGauge(prometheus.GaugeOpts{Name: "ocspsyncd_watchdog_spared_sessions", Help: "Sessions that make others wait now and may not be ended."}),
	}
}

// callTimeout bounds one check.
const callTimeout = 10 * time.Second

// unnoted is how many ended sessions may wait for their audit entry; more are only logged.
const unnoted = 100

// retryPause is the pause after the database could not be reached.
const retryPause = time.Second

// Watchdog watches the master. Run is called once; Trouble is safe for concurrent use.
type Watchdog struct {
	cfg Config

	ended chan sentence // to be written to the audit

	mu      sync.Mutex // guards trouble
	trouble string
}

// New fills in the defaults.
func New(cfg Config) *Watchdog {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&cfg.Poll, 250*time.Millisecond)
	set(&cfg.Limits.Wait, 5*time.Second)
	set(&cfg.Limits.Root, 10*time.Second)
	set(&cfg.Limits.Share, 30*time.Second)
	set(&cfg.Limits.Window, time.Minute)
	return &Watchdog{cfg: cfg, ended: make(chan sentence, unnoted)}
}

// Trouble names the sessions that make others wait and may not be ended; empty: none.
func (w *Watchdog) Trouble() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trouble
}

// Run watches until ctx ends; it returns nil then.
func (w *Watchdog) Run(ctx context.Context) error {
	var noting sync.WaitGroup
	noting.Go(func() { w.note(ctx) })
	defer noting.Wait()
	for ctx.Err() == nil {
		run, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		err := w.cfg.Store.AwaitHead(run, w.cfg.Poll, func(waiter publisherdb.HeadWaiter) {
			watching.Go(func() { w.watch(run, waiter) })
		})
		stop()
		watching.Wait()
		if err != nil && ctx.Err() == nil {
			w.cfg.Log.WarnContext(ctx, "watchdog begins anew", slog.String("error", err.Error()))
			pause(ctx, retryPause)
		}
	}
	return nil
}

func (w *Watchdog) watch(ctx context.Context, waiter publisherdb.HeadWaiter) {
	m := &memory{limits: w.cfg.Limits, turns: map[string][]turn{}, ended: map[key]time.Time{}}
	for ; ctx.Err() == nil; pause(ctx, w.cfg.Poll) {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		seen, err := waiter.Watch(call, w.cfg.Limits.Wait)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				w.cfg.Log.WarnContext(ctx, "watchdog cannot look", slog.String("error", err.Error()))
				w.report([]string{"nobody looks who stops the master: " + err.Error()})
				pause(ctx, retryPause)
			}
			continue
		}
		end, spared := m.check(time.Now(), seen)
		for _, b := range spared {
			w.cfg.Log.ErrorContext(ctx, "others wait for a session that is spared", slog.String("session", b.String()), slog.String("spared", b.Spared),
				slog.String("fix", fmt.Sprintf("look at it; a superuser ends it: select pg_terminate_backend(%d)", b.PID)))
		}
		for _, s := range end {
			w.end(ctx, waiter, s)
		}
		var all []string
		for b := range maps.Values(m.named) {
			all = append(all, fmt.Sprintf("others wait for %s; it is not ended, since %s", b, b.Spared))
		}
		w.report(all)
	}
}

func (w *Watchdog) end(ctx context.Context, waiter publisherdb.HeadWaiter, s sentence) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ended, err := waiter.End(call, w.cfg.Limits.Wait, s.Blocker)
	switch {
	case err != nil:
		w.cfg.Log.ErrorContext(ctx, "session could not be ended", slog.String("session", s.String()), slog.String("why", s.why), slog.String("error", err.Error()))
	case ended:
		w.cfg.Metrics.ended.Inc()
		w.cfg.Log.WarnContext(ctx, "session ended", slog.String("session", s.String()), slog.String("why", s.why))
		select {
		case w.ended <- s:
		default: // only the log has it
		}
	}
}

// note writes the ended sessions into the audit; each entry waits for the head.
func (w *Watchdog) note(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-w.ended:
			for err := w.cfg.Store.Ended(ctx, s.Blocker, s.why); err != nil && ctx.Err() == nil; err = w.cfg.Store.Ended(ctx, s.Blocker, s.why) {
				w.cfg.Log.WarnContext(ctx, "an ended session is not in the audit yet", slog.String("error", err.Error()))
				pause(ctx, retryPause)
			}
		}
	}
}

// report sets Trouble and the metrics.
func (w *Watchdog) report(all []string) {
	slices.Sort(all)
	w.mu.Lock()
	w.trouble = strings.Join(all, "; ")
	w.mu.Unlock()
	w.cfg.Metrics.spared.Set(float64(len(all)))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
