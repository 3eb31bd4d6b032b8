// Package heartbeat confirms the master's clock in the one head, so that every
// site knows how old its copy is: "nothing newer than this existed at that time".
//
// It trusts the master's clock only as far as this process's monotonic clock agrees: a clock
// that is set forward would make old copies look fresh, so the time is capped and an alarm is
// raised. A heartbeat that finds the head locked gives up after some seconds; meanwhile the
// sites' copies age, and the alarm names the blocking session.
package heartbeat

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ocspfleet/db/publisherdb"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Config is the database to confirm and how often.
type Config struct {
	// Store is the master's database, by a login in ocsp_publisher.
	Store *publisherdb.DB
	// Interval between two heartbeats. Default 5 s: every site's copy is at least that old, and
	// each heartbeat costs 180 octets of WAL.
	Interval time.Duration
	// Log receives misses and alarms.
	Log *slog.Logger
	// Metrics counts heartbeats; nil: none.
	Metrics *Metrics
}

// alarmAfter is how many heartbeats in a row are missed before an alarm.
const alarmAfter = 2

// alarmEach is after how many more misses the alarm is raised again: once a minute by default.
const alarmEach = 12

// callTimeout bounds one heartbeat; the database itself stops waiting for the head after 5 s.
const callTimeout = 10 * time.Second

// Metrics counts heartbeats.
type Metrics struct {
	beats  prometheus.Counter
	misses prometheus.Counter
	capped prometheus.Counter
	asOf   prometheus.Gauge
}

// NewMetrics registers the metrics of the heartbeat; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &Metrics{
		beats:  counter("ocspsyncd_heartbeats_total", "Confirmations of the head that were written."),
		misses: counter("ocspsyncd_heartbeat_misses_total", "Confirmations of the head that could not be written."),
		capped: counter("ocspsyncd_heartbeat_capped_total", "Times that the master's clock ran ahead of the monotonic one and was not believed."),
		asOf: auto.NewGauge(prometheus.GaugeOpts{
			Name: "ocspsyncd_heartbeat_as_of_seconds", Help: "The time that the head was last confirmed for, as Unix time.",
		}),
	}
}

// Heartbeat confirms the head again and again. Run is called once; Trouble is
// safe for concurrent use.
type Heartbeat struct {
	cfg Config

	mu      sync.Mutex // guards these three
	missed  int        // in a row
	written bool       // at least once
	why     string     // why the last one was missed

	// The fields below belong to Run's goroutine.
	last   time.Time // begin of the last one that was written; zero: none yet
	capped bool
}

// New fills in the defaults.
func New(cfg Config) *Heartbeat {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Second
	}
	return &Heartbeat{cfg: cfg}
}

// Trouble says why the head is not confirmed; empty: it is.
func (h *Heartbeat) Trouble() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !h.written:
		return strings.TrimSuffix("no heartbeat was written yet: "+h.why, ": ")
	case h.missed >= alarmAfter:
		return fmt.Sprintf("%d heartbeats in a row were missed: %s", h.missed, h.why)
	}
	return ""
}

// note counts a heartbeat and returns how many in a row were missed, before and now.
func (h *Heartbeat) note(err error) (before, now int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = h.missed
	if err == nil {
		h.missed, h.written, h.why = 0, true, ""
	} else {
		h.missed++
		h.why = err.Error()
	}
	return before, h.missed
}

// Run confirms the head each interval until ctx ends; it returns nil then.
func (h *Heartbeat) Run(ctx context.Context) error {
	tick := time.NewTicker(h.cfg.Interval)
	defer tick.Stop()
	for {
		h.beat(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *Heartbeat) beat(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began, elapsed := time.Now(), time.Duration(-1)
	if !h.last.IsZero() {
		elapsed = began.Sub(h.last) // monotonic
	}
	asOf, capped, err := h.cfg.Store.Heartbeat(call, elapsed)
	if ctx.Err() != nil {
		return // a stop is not a miss
	}
	before, missed := h.note(err)
	if err != nil {
		h.miss(ctx, missed, err)
		return
	}
	h.last = began
	if err := h.cfg.Store.SawSlots(call); err != nil && ctx.Err() == nil {
		h.cfg.Log.WarnContext(ctx, "the sites' slots are not noted", slog.String("error", err.Error()))
	}
	m := h.cfg.Metrics
	m.beats.Inc()
	m.asOf.Set(float64(asOf.UnixMilli()) / 1000)
	if capped {
		m.capped.Inc()
	}
	if before >= alarmAfter {
		h.cfg.Log.InfoContext(ctx, "head confirmed again", slog.Int("missed", before), slog.Time("as_of", asOf))
	}
	if capped != h.capped {
		h.capped = capped
		if capped {
			h.cfg.Log.ErrorContext(ctx, "master's clock runs ahead", slog.Time("confirmed", asOf),
				slog.String("meaning", "it was set forward by more than 10 s: it is not believed until time has caught up; check NTP, then restart this daemon if the clock is right"))
		} else {
			h.cfg.Log.InfoContext(ctx, "master's clock is believed again", slog.Time("as_of", asOf))
		}
	}
}

// miss logs a heartbeat that could not be written; from the second in a row on, with the
// session that holds the head.
func (h *Heartbeat) miss(ctx context.Context, missed int, err error) {
	h.cfg.Metrics.misses.Inc()
	if missed < alarmAfter {
		h.cfg.Log.WarnContext(ctx, "heartbeat missed", slog.String("error", err.Error()))
		return
	}
	if (missed-alarmAfter)%alarmEach != 0 {
		return
	}
	ask, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	blockers, askErr := h.cfg.Store.Blockers(ask)
	attrs := []slog.Attr{slog.Int("missed", missed), slog.String("error", err.Error()), slog.Any("blockers", blockers)}
	if askErr != nil {
		attrs = append(attrs, slog.String("blockers_unknown", askErr.Error()))
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelError, "every site's copy is ageing: the head cannot be confirmed", attrs...)
}
