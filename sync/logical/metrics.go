package logical

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what a Subscription does. A nil *Metrics counts nothing.
type Metrics struct {
	state    *prometheus.GaugeVec
	lag      prometheus.Gauge
	position prometheus.Gauge
	skew     prometheus.Gauge
	reseeds  *prometheus.CounterVec
	failed   prometheus.Counter
	rows     prometheus.Counter
	recounts *prometheus.CounterVec
	slotLag  prometheus.Gauge
}

// NewMetrics registers the metrics of a subscription:
//
//	ocspsyncd_state{state}             1 for the state it is in, 0 for the others
//	ocspsyncd_lag_seconds              now minus as_of of the local head
//	ocspsyncd_position                 of the local head
//	ocspsyncd_clock_skew_seconds       this site's clock minus the master's, last measured
//	ocspsyncd_slot_lag_bytes           WAL that the master keeps for this site
//	ocspsyncd_reseeds_total{reason}    seeds carried through
//	ocspsyncd_seed_failures_total      seeds broken off; the old rows stayed
//	ocspsyncd_seed_rows_total          certificates copied by seeds
//	ocspsyncd_recounts_total{result}   full recounts: equal, unequal, failed
func NewMetrics(registry prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ocspsyncd_state", Help: "1 for the state that replication is in.",
		}, []string{"state"}),
		lag:      gauge("ocspsyncd_lag_seconds", "Age of the local copy: now minus as_of of its head."),
		position: gauge("ocspsyncd_position", "Position of the local head."),
		skew:     gauge("ocspsyncd_clock_skew_seconds", "This site's clock minus the master's, as last measured."),
		slotLag:  gauge("ocspsyncd_slot_lag_bytes", "Write-ahead log that the master keeps for this site."),
		reseeds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspsyncd_reseeds_total", Help: "Copies of all rows taken from the master, by reason.",
		}, []string{"reason"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ocspsyncd_seed_failures_total", Help: "Copies of all rows that were broken off; the old rows stayed.",
		}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ocspsyncd_seed_rows_total", Help: "Certificates copied from the master by seeds.",
		}),
		recounts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspsyncd_recounts_total", Help: "Full recounts of the copy against its head, by result.",
		}, []string{"result"}),
	}
	registry.MustRegister(m.state, m.lag, m.position, m.skew, m.slotLag, m.reseeds, m.failed, m.rows, m.recounts)
	m.shows(State{Name: Starting}, time.Time{})
	return m
}

// shows sets the gauges.
func (m *Metrics) shows(s State, now time.Time) {
	if m == nil {
		return
	}
	for _, name := range Names {
		value := 0.0
		if name == s.Name {
			value = 1
		}
		m.state.WithLabelValues(string(name)).Set(value)
	}
	m.position.Set(float64(s.Position))
	if !s.AsOf.IsZero() {
		m.lag.Set(now.Sub(s.AsOf).Seconds())
	}
	if !s.SkewAt.IsZero() {
		m.skew.Set(s.Skew.Seconds())
	}
}

func (m *Metrics) slotBytes(n int64) {
	if m != nil {
		m.slotLag.Set(float64(n))
	}
}

func (m *Metrics) recounted(result string) {
	if m != nil {
		m.recounts.WithLabelValues(result).Inc()
	}
}

// seeded counts a seed that was carried through.
func (m *Metrics) seeded(reason string) {
	if m != nil {
		m.reseeds.WithLabelValues(reason).Inc()
	}
}

func (m *Metrics) seedFailed() {
	if m != nil {
		m.failed.Inc()
	}
}

func (m *Metrics) copied(rows int64) {
	if m != nil {
		m.rows.Add(float64(rows))
	}
}

// FilesMetrics tells how old the signed files are. A nil *FilesMetrics tells nothing.
type FilesMetrics struct{ age prometheus.Gauge }

// NewFilesMetrics registers ocspsyncd_files_age_seconds: now minus as_of of the newest
// checkpoint that came by native replication and was verified.
func NewFilesMetrics(registry prometheus.Registerer) *FilesMetrics {
	m := &FilesMetrics{prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ocspsyncd_files_age_seconds", Help: "Age of the newest signed checkpoint that came by native replication and was verified.",
	})}
	registry.MustRegister(m.age)
	return m
}

func (m *FilesMetrics) shows(stood verified, now time.Time) {
	if m != nil && stood.Checkpoint != nil {
		m.age.Set(now.Sub(stood.AsOf).Seconds())
	}
}
