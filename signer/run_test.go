package signer

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// The rows of other sites are candidates too: the token is not searched for their
// keys each second.
func TestTokenIsNotSearchedEachSecond(t *testing.T) {
	r := newRig(t)
	foreign := signertest.NewKey(t)
	r.AddCert(r.CA.Delegate(t, 0x7100, foreign.Public(), signertest.Noon.Add(-day), signertest.Noon.Add(day)))
	for second := range 20 {
		r.SetTime(signertest.Noon.Add(time.Duration(second) * time.Second))
		if err := r.refresh(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	der, _ := x509.MarshalPKIXPublicKey(foreign.Public())
	if n := r.Keys.Asked[string(der)]; n != 4 {
		t.Errorf("%d searches in 20 s, want one each 5 s", n)
	}
}

// Run: a certificate that arrives is adopted within a second, a self-test runs
// each minute, a failing one is found and repeated, and Run ends with its context.
func TestRunKeepsIdentitiesCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		start := time.Now()
		r.Responder.now = func() time.Time { return signertest.Noon.Add(time.Since(start)) }
		late := r.Copy.Certs[0]
		r.setCerts()
		_ = r.Refresh(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)

		r.setCerts(late)
		time.Sleep(time.Second)
		synctest.Wait()
		wantClass(t, r.ask(signertest.GoodSerial), Good)
		if reasons := r.Ready(ctx); len(reasons) != 0 {
			t.Errorf("ready says %q", reasons)
		}

		before := r.Keys.Signs.Load()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := r.Keys.Signs.Load() - before; n < 9 || n > 11 {
			t.Errorf("%d self-tests in 10 minutes", n)
		}

		r.Keys.Set(func() { r.Keys.Wrong = true })
		time.Sleep(time.Minute)
		synctest.Wait()
		if reasons := r.Ready(ctx); len(reasons) != 1 || !strings.Contains(reasons[0], "not that of the certificate's key") {
			t.Errorf("ready says %q", reasons)
		}
		r.Keys.Set(func() { r.Keys.Wrong = false })
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if reasons := r.Ready(ctx); len(reasons) != 0 {
			t.Errorf("healed, but ready says %q", reasons)
		}

		// A hung token: no self-test within 2 minutes, one goroutine held.
		release := make(chan struct{})
		r.Keys.Set(func() { r.Keys.Block = release })
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if reasons := r.Ready(ctx); len(reasons) != 1 {
			t.Errorf("hung, but ready says %q", reasons)
		}
		close(release)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Ready judges the copy: never filled, too old, from the future.
func TestReadyJudgesTheCopy(t *testing.T) {
	r := newRig(t)
	if reasons := r.Ready(t.Context()); len(reasons) != 0 {
		t.Fatalf("ready says %q", reasons)
	}
	if budget := r.OutageBudget(); budget != 36*time.Hour {
		t.Errorf("outage budget %s, want max_staleness", budget)
	}
	for want, h := range map[string]db.Horizon{
		"not been filled": {},
		"copy is 37h0m0s": {AsOf: signertest.Noon.Add(-37 * time.Hour), Received: signertest.Noon},
		"10m0s ahead":     {AsOf: signertest.Noon.Add(10 * time.Minute), Received: signertest.Noon},
	} {
		r.Copy.Edit(func() { r.Copy.At = h })
		if reasons := r.Ready(t.Context()); len(reasons) != 1 || !strings.Contains(reasons[0], want) {
			t.Errorf("%s: ready says %q", want, reasons)
		}
	}
	r.Copy.Heartbeat(signertest.Noon.Add(5*day + 13*time.Hour))
	r.SetTime(signertest.Noon.Add(5*day + 13*time.Hour))
	if budget := r.OutageBudget(); budget != 3*time.Hour { // 11 h of the signer are left
		t.Errorf("outage budget %s near the signer's end", budget)
	}
	r.setCerts()
	_ = r.Refresh(t.Context())
	if budget := r.OutageBudget(); budget != 0 {
		t.Errorf("outage budget %s without a signer", budget)
	}
}
