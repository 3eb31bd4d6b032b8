package signer

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts what a Responder does. Values that are read at scrape time come by
// prometheus.Collector. Label values come from the configuration and the copy's issuer names,
// never from a client.
type Metrics struct {
	responder atomic.Pointer[Responder]

	responses    [classes]prometheus.Counter
	cacheHits    prometheus.Counter
	cacheMisses  prometheus.Counter
	signFailures prometheus.Counter
	panics       prometheus.Counter
	lookups      map[string]prometheus.Counter // by outcome; not changed after NewMetrics
}

var (
	descAge = prometheus.NewDesc("ocspd_horizon_age_seconds",
		"How old the local copy is by the master's clock.", nil, nil)
	descDoubt = prometheus.NewDesc("ocspd_horizon_doubt",
		"1 while the local copy is in doubt and neither good nor unknown is answered.", nil, nil)
	descBudget = prometheus.NewDesc("ocspd_outage_budget_seconds",
		"How long this site would go on answering good if nothing new arrived; the least over its issuers.", nil, nil)
	descEnd = prometheus.NewDesc("ocspd_signer_not_after_seconds",
		"End of the responder certificate in use, as Unix time; 0 when there is none.", []string{"issuer"}, nil)
	descLeft = prometheus.NewDesc("ocspd_signer_life_left_ratio",
		"Part of its life that the responder certificate in use has left, 1 to 0; of several the least; 0 when there is none.", []string{"issuer"}, nil)
	descTested = prometheus.NewDesc("ocspd_signer_self_test_ok",
		"1 when the key's last self-test passed.", []string{"issuer"}, nil)
	descEntries = prometheus.NewDesc("ocspd_cache_entries", "Signatures in the cache.", nil, nil)
	descBytes   = prometheus.NewDesc("ocspd_cache_bytes", "Octets that the cache of signatures takes.", nil, nil)
	descEvicted = prometheus.NewDesc("ocspd_cache_evictions_total", "Signatures driven out of the cache by others.", nil, nil)
	descEmptied = prometheus.NewDesc("ocspd_cache_emptied_total",
		"How often the cache was emptied: doubt in the copy, or an identity that stopped.", nil, nil)
	descSigning = prometheus.NewDesc("ocspd_signing", "Signatures under way.", nil, nil)
)

// NewMetrics registers metrics for one Responder; nil registers none.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		cacheHits:    counter("ocspd_cache_hits_total", "Answers whose signature was in the cache."),
		cacheMisses:  counter("ocspd_cache_misses_total", "Cacheable answers that had to wait for a signature."),
		signFailures: counter("ocspd_sign_failures_total", "Answers for which no signature could be had in time."),
		panics:       counter("ocspd_panics_total", "Panics answered with internalError."),
		lookups:      make(map[string]prometheus.Counter),
	}
	responses := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "ocspd_responses_total", Help: "OCSP answers by what they say.",
	}, []string{"status"})
	for class := range classes {
		m.responses[class] = responses.WithLabelValues(class.String())
	}
	lookups := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "ocspd_lookup_questions_total", Help: "Serials that the copy says were never issued and that ocspsyncd was asked for, by what came of it.",
	}, []string{"outcome"})
	for _, outcome := range []string{lookupIssued, lookupAbsent, lookupUnanswered} {
		m.lookups[outcome] = lookups.WithLabelValues(outcome)
	}
	if registry != nil {
		registry.MustRegister(m)
	}
	return m
}

func (m *Metrics) bind(r *Responder) { m.responder.Store(r) }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descAge, descDoubt, descBudget, descEnd, descLeft, descTested, descEntries, descBytes, descEvicted, descEmptied, descSigning,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	r := m.responder.Load()
	if r == nil {
		return
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	horizon := r.source.Horizon()
	gauge(descDoubt, truth(horizon.Doubt != ""))
	gauge(descBudget, r.OutageBudget().Seconds())
	if !horizon.AsOf.IsZero() {
		gauge(descAge, horizon.Age(r.now()).Seconds())
	}
	for _, s := range r.site.Load().served {
		end, tested := s.vitals()
		gauge(descEnd, end, s.name)
		gauge(descLeft, s.lifeLeft(r.now()), s.name)
		gauge(descTested, truth(tested), s.name)
	}
	entries, size := r.cache.stats()
	gauge(descEntries, float64(entries))
	gauge(descBytes, float64(size))
	gauge(descSigning, float64(len(r.slots)))
	ch <- prometheus.MustNewConstMetric(descEvicted, prometheus.CounterValue, float64(r.cache.evictions.Load()))
	ch <- prometheus.MustNewConstMetric(descEmptied, prometheus.CounterValue, float64(r.cache.epoch.Load()))
}

// vitals returns the latest end among the signers, as Unix time, 0 when there is none, and
// whether each passed its self-test.
func (s *served) vitals() (end float64, tested bool) {
	for _, id := range s.identities {
		if id.stopped.Load() {
			continue
		}
		test := id.test.Load()
		passed := test != nil && test.err == nil
		tested = passed && (tested || end == 0)
		end = max(end, float64(id.end.Unix()))
	}
	return end, tested
}

// lifeLeft returns the share of a signer's life that is left: 1 when new, 0 when ended or when
// there is no signer, and the smallest of several. An alarm on it works for certificates of
// days and of months alike.
func (s *served) lifeLeft(now time.Time) float64 {
	least, some := 1.0, false
	for _, id := range s.identities {
		if !id.stopped.Load() {
			part := float64(id.end.Sub(now)) / float64(id.end.Sub(id.cert.NotBefore))
			least, some = min(least, max(part, 0)), true
		}
	}
	if !some {
		return 0
	}
	return least
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
