package signer

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
)

const (
	refreshInterval = time.Second
	testInterval    = time.Minute
	maxTestAge      = 2 * time.Minute // one self-test may be missed
)

// Run keeps the identities current until ctx ends: it reads the rows and the token each second,
// and tests each key each minute. It returns nil.
func (r *Responder) Run(ctx context.Context) error {
	ticker := time.NewTicker(refreshInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		r.turn(ctx)
		select {
		case <-ticker.C:
		case <-r.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// turn is one round of Run.
func (r *Responder) turn(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			r.panicked(ctx, p)
		}
	}()
	// A missing identity was logged when it changed, and Ready reports it.
	_ = r.refresh(ctx, false)
	for _, s := range r.site.Load().served {
		for _, id := range s.identities {
			r.retest(ctx, id)
		}
	}
}

// retest tests a key when a test is due.
func (r *Responder) retest(ctx context.Context, id *Identity) {
	if id.stopped.Load() {
		return
	}
	test, age := id.test.Load(), time.Duration(0)
	if test != nil {
		age = r.now().Sub(test.at)
	}
	if test == nil || age >= testInterval || age < 0 || (test.err != nil && age >= retryAfter) {
		_ = r.selfTest(ctx, id) // the result is stored there
	}
}

// Ready returns the reasons why this site should get no traffic; empty when it should. It
// checks the age of the copy, and that each pinned issuer's key has signed and verified within
// the last 2 minutes.
func (r *Responder) Ready(context.Context) []string {
	now := r.now()
	h := r.source.Horizon()
	var reasons []string
	if h.AsOf.IsZero() {
		reasons = append(reasons, "the copy has not been filled yet")
	}
	if h.Doubt != "" {
		reasons = append(reasons, "the copy is in doubt: "+h.Doubt)
	}
	if ahead := h.AsOf.Sub(now); ahead > db.MaxClockSkew {
		reasons = append(reasons, fmt.Sprintf("the master's clock is %s ahead of ours: check both", ahead.Round(time.Second)))
	}
	for _, s := range r.site.Load().served {
		reasons = append(reasons, s.unready(h, now)...)
	}
	return reasons
}

// unready is Ready for one issuer.
func (s *served) unready(h db.Horizon, now time.Time) []string {
	var reasons []string
	if age := h.Age(now); s.present && !h.AsOf.IsZero() && age > s.policy.MaxStaleness {
		reasons = append(reasons, fmt.Sprintf("issuer %q: the copy is %s old, good ends at %s", s.name, age.Round(time.Second), s.policy.MaxStaleness))
	}
	if len(s.identities) == 0 {
		return append(reasons, s.fault().Error())
	}
	for _, id := range s.identities {
		if why := id.unready(now); why != "" {
			reasons = append(reasons, fmt.Sprintf("issuer %q: %s", s.name, why))
		}
	}
	return reasons
}

// unready is Ready for one signer.
func (id *Identity) unready(now time.Time) string {
	test := id.test.Load()
	switch {
	case id.stopped.Load():
		return "its signing identity stopped itself"
	case !id.inTime(now):
		return fmt.Sprintf("its responder certificate is valid from %s to %s",
			id.cert.NotBefore.UTC().Format(time.RFC3339), id.end.UTC().Format(time.RFC3339))
	case test == nil || now.Sub(test.at) > maxTestAge:
		return fmt.Sprintf("no self-test within %s", maxTestAge)
	case test.err != nil:
		return test.err.Error()
	}
	return ""
}

// OutageBudget is how long this site would still answer good if no update arrived from now on:
// the least over the pinned issuers, zero when one has no identity.
func (r *Responder) OutageBudget() time.Duration {
	now := r.now()
	age := r.source.Horizon().Age(now)
	budget := maxValidity
	for _, s := range r.site.Load().served {
		var signer time.Duration
		for _, id := range s.identities {
			if !id.stopped.Load() {
				signer = max(signer, id.end.Sub(now)-db.SignerMargin)
			}
		}
		budget = min(budget, s.policy.MaxStaleness-age, signer)
	}
	return max(0, budget)
}
