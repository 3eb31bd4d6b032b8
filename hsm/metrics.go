package hsm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the token does. A nil *Metrics counts nothing.
type Metrics struct {
	signSeconds prometheus.Histogram
	signErrors  *prometheus.CounterVec
	retries     prometheus.Counter
	rebuilds    prometheus.Counter
	up          *prometheus.GaugeVec
	queue       prometheus.Gauge
}

// NewMetrics registers the token's metrics:
//
//	ocspd_sign_duration_seconds      time of one signature, waiting included
//	ocspd_sign_errors_total{class}   signatures not made; class is a closed set
//	ocspd_token_retries_total        calls repeated after an error that may pass
//	ocspd_token_up{token}            1: signatures can be made; 0: lost, or every call hangs
//	ocspd_token_rebuilds_total       times that all sessions were closed and opened again
//	ocspd_token_queue                signatures waiting for a session now
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		signSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ocspd_sign_duration_seconds",
			Help: "Time of one signature by the token, waiting for a session included.",
			// 50 us is SoftHSM with P-256, 100 ms a networked HSM under load, 2 s the default deadline.
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}),
		signErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocspd_sign_errors_total",
			Help: "Signatures that were asked for and not made, by class.",
		}, []string{"class"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ocspd_token_retries_total",
			Help: "Calls of the token that were made once more after an error that may pass.",
		}),
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ocspd_token_up",
			Help: "1 while signatures can be asked of the token, 0 while it is lost and looked for, or all calls of its library hang.",
		}, []string{"token"}),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ocspd_token_rebuilds_total",
			Help: "Times that all sessions with the token were closed and opened again.",
		}),
		queue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ocspd_token_queue",
			Help: "Signatures that wait for a session with the token.",
		}),
	}
	for _, known := range signErrorClasses {
		m.signErrors.WithLabelValues(known.label) // so that a rate exists before the first error
	}
	registry.MustRegister(m.signSeconds, m.signErrors, m.retries, m.up, m.rebuilds, m.queue)
	return m
}

func (m *Metrics) signed(took time.Duration) {
	if m != nil {
		m.signSeconds.Observe(took.Seconds())
	}
}

func (m *Metrics) refused(err error) {
	if m != nil {
		m.signErrors.WithLabelValues(errorClass(err)).Inc()
	}
}

func (m *Metrics) retried() {
	if m != nil {
		m.retries.Inc()
	}
}

// stands says whether the token called name, by its URI, is up.
func (m *Metrics) stands(name string, up bool) {
	if m == nil {
		return
	}
	value := 0.0
	if up {
		value = 1
	}
	m.up.WithLabelValues(name).Set(value)
}

func (m *Metrics) rebuilt() {
	if m != nil {
		m.rebuilds.Inc()
	}
}

// waiting adds n, never sets: two callers who each set what they counted may
// do so in the wrong order, and the last one would stay.
func (m *Metrics) waiting(n int) {
	if m != nil {
		m.queue.Add(float64(n))
	}
}
