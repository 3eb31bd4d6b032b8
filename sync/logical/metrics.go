package logical

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a Subscription does.
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

// NewMetrics registers the metrics of a subscription; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		state: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ocspsyncd_state", Help: "1 for the state that replication is in.",
		}, []string{"state"}),
		lag:      gauge("ocspsyncd_lag_seconds", "Age of the local copy: now minus as_of of its head."),
		position: gauge("ocspsyncd_position", "Position of the local head."),
		skew:     gauge("ocspsyncd_clock_skew_seconds", "This site's clock minus the master's, as last measured."),
		slotLag:  gauge("ocspsyncd_slot_lag_bytes", "Write-ahead log that the master keeps for this site."),
		reseeds: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspsyncd_reseeds_total", Help: "Copies of all rows taken from the master, by reason.",
		}, []string{"reason"}),
		failed: counter("ocspsyncd_seed_failures_total", "Copies of all rows that were broken off; the old rows stayed."),
		rows:   counter("ocspsyncd_seed_rows_total", "Certificates copied from the master by seeds."),
		recounts: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspsyncd_recounts_total", Help: "Full recounts of the copy against its head, by result.",
		}, []string{"result"}),
	}
	m.shows(State{Name: Starting}, time.Time{})
	return m
}

// shows sets the gauges.
func (m *Metrics) shows(s State, now time.Time) {
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

// FilesMetrics shows how old the signed files are.
type FilesMetrics struct{ age prometheus.Gauge }

// NewFilesMetrics registers ocspsyncd_files_age_seconds: now minus as_of of the newest
// checkpoint that came by native replication and was verified. Nil registers none.
func NewFilesMetrics(registry prometheus.Registerer) *FilesMetrics {
	return &FilesMetrics{promauto.With(registry).NewGauge(prometheus.GaugeOpts{
		Name: "ocspsyncd_files_age_seconds", Help: "Age of the newest signed checkpoint that came by native replication and was verified.",
	})}
}

func (m *FilesMetrics) shows(stood verified, now time.Time) {
	if stood.Checkpoint != nil {
		m.age.Set(now.Sub(stood.AsOf).Seconds())
	}
}
