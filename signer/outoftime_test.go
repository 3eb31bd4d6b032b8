package signer

import (
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/signertest"
)

// The clock decides at each use, and says so: in the answer, on /readyz and, at
// the next look at the rows, in the log. When it is right again all is well.
func TestOwnCertificateOutOfTimeStopsAndIsAlarmed(t *testing.T) {
	begin, end := signertest.Noon.Add(-day), signertest.Noon.Add(6*day)
	for name, c := range map[string]struct {
		now    time.Time
		ready  string // the reason before the rows are looked at anew
		reason string // and after
	}{
		"a second before its begin": {begin.Add(-time.Second), "is valid from", "not yet valid"},
		"at its end":                {end, "is valid from", "no current certificate"},
		"a month later":             {end.Add(30 * day), "is valid from", "no current certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			wantClass(t, r.ask(signertest.GoodSerial), Good) // and is cached
			r.SetTime(c.now)
			r.Copy.Heartbeat(r.Time())
			wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
			wantClass(t, r.ask(signertest.RevokedSerial), Unauthorized)
			if said := strings.Join(r.Ready(t.Context()), "; "); !strings.Contains(said, c.ready) {
				t.Errorf("ready says %q", said)
			}
			if err := r.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("refreshing: %v", err)
			}
			wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
			if said := strings.Join(r.Ready(t.Context()), "; "); !strings.Contains(said, c.reason) {
				t.Errorf("ready says %q after the rows were looked at", said)
			}
			if log := r.Logs.String(); strings.Count(log, `level=ERROR msg="signing identity lost"`) != 1 {
				t.Errorf("want one alarm in the log:\n%s", log)
			}
			if budget := r.OutageBudget(); budget != 0 {
				t.Errorf("an outage budget of %s without a signer", budget)
			}
			r.SetTime(signertest.Noon.Add(time.Hour))
			r.Copy.Heartbeat(r.Time())
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatalf("with the right time: %v", err)
			}
			wantClass(t, r.ask(signertest.GoodSerial), Good)
			if said := r.Ready(t.Context()); len(said) != 0 {
				t.Errorf("ready says %q with the right time", said)
			}
		})
	}
}
