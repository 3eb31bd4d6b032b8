package index

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics is the metrics of following the database.
type Metrics struct {
	certificates, divergence, position, up, corrections prometheus.Gauge
	reloads                                             prometheus.Counter
}

// NewMetrics registers the copy's metrics; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &Metrics{
		certificates: gauge("ocspd_index_certificates", "Certificates in the copy in memory."),
		divergence:   gauge("ocspd_index_divergence", "1 while the local database's state is refused: no good and no unknown is answered."),
		position:     gauge("ocspd_index_position", "Position of the last change that was adopted."),
		up:           gauge("ocspd_index_database_up", "1 while the local database answers; the copy serves on without it."),
		corrections:  gauge("ocspd_index_unbelieved_corrections", "Corrections of revocations that are held, which no believed key signed: the revocations stand."),
		reloads: auto.NewCounter(prometheus.CounterOpts{
			Name: "ocspd_index_reloads_total", Help: "Times that all rows were read anew and adopted.",
		}),
	}
}

func (m *Metrics) reloaded() {
	m.reloads.Inc()
}

func (m *Metrics) follow(certificates int, position int64, refused bool) {
	m.certificates.Set(float64(certificates))
	m.position.Set(float64(position))
	m.divergence.Set(number(refused))
}

func (m *Metrics) unbelieved(corrections int) {
	m.corrections.Set(float64(corrections))
}

func (m *Metrics) database(up bool) {
	m.up.Set(number(up))
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
