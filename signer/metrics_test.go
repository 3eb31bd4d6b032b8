package signer

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"ocspfleet/integration/testkit/signertest"
)

// The metrics that the contract names, with the values of a known life.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := NewMetrics(registry)
	if _, err := registry.Gather(); err != nil { // before there is a responder
		t.Fatal(err)
	}
	r := newRig(t, func(c *Config) { c.Metrics = m })
	for range 3 {
		r.ask(signertest.GoodSerial)
	}
	r.ask(signertest.RevokedSerial)
	r.ask(signertest.AbsentSerial)
	r.Answer(t.Context(), nil)
	r.SetTime(signertest.Noon.Add(time.Minute))
	want := `
# HELP ocspd_horizon_age_seconds How old the local copy is by the master's clock.
# TYPE ocspd_horizon_age_seconds gauge
ocspd_horizon_age_seconds 60
# HELP ocspd_outage_budget_seconds How long this site would go on answering good if nothing new arrived; the least over its issuers.
# TYPE ocspd_outage_budget_seconds gauge
ocspd_outage_budget_seconds 129540
# HELP ocspd_signer_not_after_seconds End of the responder certificate in use, as Unix time; 0 when there is none.
# TYPE ocspd_signer_not_after_seconds gauge
ocspd_signer_not_after_seconds{issuer="root-one"} 1.795867200e+09
# HELP ocspd_responses_total OCSP answers by what they say.
# TYPE ocspd_responses_total counter
ocspd_responses_total{status="good"} 3
ocspd_responses_total{status="internal_error"} 0
ocspd_responses_total{status="malformed"} 1
ocspd_responses_total{status="revoked"} 1
ocspd_responses_total{status="try_later"} 0
ocspd_responses_total{status="unauthorized"} 0
ocspd_responses_total{status="unknown"} 1
# HELP ocspd_cache_hits_total Answers whose signature was in the cache.
# TYPE ocspd_cache_hits_total counter
ocspd_cache_hits_total 2
# HELP ocspd_cache_entries Signatures in the cache.
# TYPE ocspd_cache_entries gauge
ocspd_cache_entries 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "ocspd_horizon_age_seconds", "ocspd_outage_budget_seconds",
		"ocspd_signer_not_after_seconds", "ocspd_responses_total", "ocspd_cache_hits_total", "ocspd_cache_entries"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) != 0 {
		t.Errorf("%v, %v", problems, err)
	}
	r.setCerts()
	_ = r.Refresh(t.Context())
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
}
