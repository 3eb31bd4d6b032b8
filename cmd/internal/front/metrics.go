package front

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Why a connection was closed to make room.
const (
	reasonClient = "client" // its client had too many half-open ones
	reasonFull   = "full"   // all connections were in use
)

// How a trusted proxy failed to name its client.
const (
	reasonPROXY  = "proxy_protocol" // no PROXY header, or a broken one
	reasonHeader = "header"         // no address in it
)

// Metrics counts connections.
type Metrics struct {
	connections [states]prometheus.Gauge
	cuts        map[string]prometheus.Counter // by reason; not changed after NewMetrics
	faults      map[string]prometheus.Counter // by reason; not changed after NewMetrics
}

// NewMetrics registers the metrics of a listener, each with the prefix; nil registers none.
func NewMetrics(registry prometheus.Registerer, prefix string) *Metrics {
	auto := promauto.With(registry)
	counters := func(name, help string, reasons ...string) map[string]prometheus.Counter {
		all := auto.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{"reason"})
		by := map[string]prometheus.Counter{}
		for _, reason := range reasons {
			by[reason] = all.WithLabelValues(reason)
		}
		return by
	}
	connections := auto.NewGaugeVec(prometheus.GaugeOpts{
		Name: prefix + "_connections", Help: "Connections of the listener by what they do.",
	}, []string{"state"})
	m := &Metrics{
		cuts: counters("_connections_cut_total", "Waiting connections closed to make room: too many of one client, or all taken.",
			reasonClient, reasonFull),
		faults: counters("_proxy_faults_total", "Connections or requests of a trusted proxy that do not name their client as configured.",
			reasonPROXY, reasonHeader),
	}
	for s := range states {
		m.connections[s] = connections.WithLabelValues(s.String())
	}
	return m
}

func (m *Metrics) moved(s state, by float64) {
	m.connections[s].Add(by)
}

func (m *Metrics) cut(reason string) {
	m.cuts[reason].Inc()
}

func (m *Metrics) unnamed(reason string) {
	m.faults[reason].Inc()
}
