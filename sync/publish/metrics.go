package publish

import (
	"time"

	"ocspfleet/db/masterdb"

	"github.com/prometheus/client_golang/prometheus"
)

// SealerMetrics counts what a Sealer signs. A nil *SealerMetrics counts nothing.
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

// NewSealerMetrics registers the metrics of the master's feed:
//
//	ocspsyncd_feed_segments_total          segments sealed
//	ocspsyncd_feed_changes_total           changes in them
//	ocspsyncd_feed_segment_octets_total    octets of their bodies
//	ocspsyncd_feed_confirmations_total     checkpoints signed with nothing new
//	ocspsyncd_feed_seal_failures_total     seals that could not be made
//	ocspsyncd_feed_position                of the newest checkpoint
//	ocspsyncd_feed_as_of_seconds           of the newest checkpoint, as Unix time
//	ocspsyncd_feed_seal_duration_seconds   from the look to the commit of a seal
func NewSealerMetrics(registry prometheus.Registerer) *SealerMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &SealerMetrics{
		segments: counter("ocspsyncd_feed_segments_total", "Segments sealed."),
		changes:  counter("ocspsyncd_feed_changes_total", "Changes in the segments sealed."),
		octets:   counter("ocspsyncd_feed_segment_octets_total", "Octets of the segments sealed."),
		confirms: counter("ocspsyncd_feed_confirmations_total", "Checkpoints signed with nothing new."),
		failures: counter("ocspsyncd_feed_seal_failures_total", "Seals that could not be made."),
		position: gauge("ocspsyncd_feed_position", "Position of the newest checkpoint."),
		asOf:     gauge("ocspsyncd_feed_as_of_seconds", "What the newest checkpoint confirms, as Unix time."),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ocspsyncd_feed_seal_duration_seconds", Help: "From the look at the head to the commit of a seal.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}),
	}
	registry.MustRegister(m.segments, m.changes, m.octets, m.confirms, m.failures, m.position, m.asOf, m.duration)
	return m
}

func (m *SealerMetrics) signed(s masterdb.Sealed, took time.Duration) {
	if m == nil {
		return
	}
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
	if m != nil {
		m.failures.Inc()
	}
}
