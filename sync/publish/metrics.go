package publish

import (
	"time"

	"ocspfleet/db/publisherdb"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// SealerMetrics counts what a Sealer signs.
type SealerMetrics struct {
	segments prometheus.Counter
	changes  prometheus.Counter
	octets   prometheus.Counter
	confirms prometheus.Counter
	failures prometheus.Counter
	position prometheus.Gauge
	asOf     prometheus.Gauge
	duration prometheus.Histogram
}

// NewSealerMetrics registers the metrics of the master's feed; nil registers none.
func NewSealerMetrics(registry prometheus.Registerer) *SealerMetrics {
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &SealerMetrics{
		segments: counter("ocspsyncd_feed_segments_total", "Segments sealed."),
		changes:  counter("ocspsyncd_feed_changes_total", "Changes in the segments sealed."),
		octets:   counter("ocspsyncd_feed_segment_octets_total", "Octets of the segments sealed."),
		confirms: counter("ocspsyncd_feed_confirmations_total", "Checkpoints signed with nothing new."),
		failures: counter("ocspsyncd_feed_seal_failures_total", "Seals that could not be made."),
		position: gauge("ocspsyncd_feed_position", "Position of the newest checkpoint."),
		asOf:     gauge("ocspsyncd_feed_as_of_seconds", "What the newest checkpoint confirms, as Unix time."),
		duration: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "ocspsyncd_feed_seal_duration_seconds", Help: "From the look at the head to the commit of a seal.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}),
	}
}

func (m *SealerMetrics) signed(s publisherdb.Sealed, took time.Duration) {
	if g := s.Segment; g != nil {
		m.segments.Inc()
		m.changes.Add(float64(g.Last - g.First + 1))
		m.octets.Add(float64(len(g.Body)))
		m.duration.Observe(took.Seconds())
	} else {
		m.confirms.Inc()
	}
	m.position.Set(float64(s.Note.Position))
	m.asOf.Set(float64(s.Note.AsOf.UnixMilli()) / 1000)
}

func (m *SealerMetrics) failed() {
	m.failures.Inc()
}
