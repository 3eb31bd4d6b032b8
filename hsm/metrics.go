package hsm

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts the work of the tokens of a process.
type Metrics struct {
	signSeconds prometheus.Histogram
	signErrors  *prometheus.CounterVec
	retries     prometheus.Counter
	up          *prometheus.GaugeVec // by the token's name in its URI
	rebuilds    prometheus.Counter
	queue       prometheus.Gauge // add, never set: two callers could set in the wrong order, and the wrong value would stay
}

// NewMetrics registers the tokens' metrics; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	m := &Metrics{
		signSeconds: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "ocspd_sign_duration_seconds",
			Help: "Time of one signature by the token, waiting for a session included.",
			// 50 us is SoftHSM with P-256, 100 ms a networked HSM under load, 2 s the default deadline.
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}),
		signErrors: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspd_sign_errors_total",
			Help: "Signatures that were asked for and not made, by class.",
		}, []string{"class"}),
		retries: auto.NewCounter(prometheus.CounterOpts{
			Name: "ocspd_token_retries_total",
			Help: "Calls of the token that were made once more after an error that may pass.",
		}),
		up: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ocspd_token_up",
			Help: "1 while signatures can be asked of the token, 0 while it is lost and looked for, or all calls of its library hang.",
		}, []string{"token"}),
		rebuilds: auto.NewCounter(prometheus.CounterOpts{
			Name: "ocspd_token_rebuilds_total",
			Help: "Times that all sessions with the token were closed and opened again.",
		}),
		queue: auto.NewGauge(prometheus.GaugeOpts{
			Name: "ocspd_token_queue",
			Help: "Signatures that wait for a session with the token.",
		}),
	}
	for _, known := range signErrorClasses {
		m.signErrors.WithLabelValues(known.label) // so that the rate exists before the first error
	}
	return m
}
