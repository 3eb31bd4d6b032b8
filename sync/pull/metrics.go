package pull

import (
	"ocspfleet/db"
	"ocspfleet/db/sitedb"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a Puller does.
type Metrics struct {
	faults   *prometheus.CounterVec
	source   *prometheus.GaugeVec
	segments prometheus.Counter
	changes  prometheus.Counter
	confirms prometheus.Counter
	seeds    prometheus.Counter
	position prometheus.Gauge
	asOf     prometheus.Gauge
	keySet   prometheus.Gauge
	skew     prometheus.Gauge
}

// NewMetrics registers the metrics of a site's feed; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &Metrics{
		faults: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspsyncd_pull_faults_total", Help: "What was wrong with sources of the feed, by reason.",
		}, []string{"reason"}),
		source: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ocspsyncd_pull_source", Help: "1 for the source of the feed that news came from last.",
		}, []string{"source"}),
		segments: counter("ocspsyncd_pull_segments_total", "Segments of the feed applied."),
		changes:  counter("ocspsyncd_pull_changes_total", "Changes in the segments applied."),
		confirms: counter("ocspsyncd_pull_confirmations_total", "Checkpoints taken with nothing new."),
		seeds:    counter("ocspsyncd_pull_seeds_total", "Copies replaced by a snapshot of the feed."),
		position: gauge("ocspsyncd_pull_position", "Position of the copy."),
		asOf:     gauge("ocspsyncd_pull_as_of_seconds", "What the copy is known to be true at, as Unix time."),
		keySet:   gauge("ocspsyncd_pull_key_set", "Number of the feed's key set in force here."),
		skew:     gauge("ocspsyncd_pull_clock_skew_seconds", "This site's clock minus the master's, as last measured."),
	}
	for _, fault := range Faults {
		m.faults.WithLabelValues(string(fault))
	}
	return m
}

func (m *Metrics) faulty(f Fault) { m.faults.WithLabelValues(string(f)).Inc() }

// uses sets the configured source that the news came from.
func (m *Metrics) uses(sources []source, used *source) {
	for i := range sources {
		value := 0.0
		if &sources[i] == used {
			value = 1
		}
		m.source.WithLabelValues(sources[i].client.String()).Set(value)
	}
}

func (m *Metrics) took(step sitedb.FeedStep) {
	if step.Segment == nil {
		m.confirms.Inc()
		return
	}
	m.segments.Inc()
	m.changes.Add(float64(len(step.Changes)))
}

func (m *Metrics) stands(h db.Head) {
	if !h.AsOf.IsZero() {
		m.position.Set(float64(h.Position))
		m.asOf.Set(float64(h.AsOf.UnixMilli()) / 1000)
	}
}
