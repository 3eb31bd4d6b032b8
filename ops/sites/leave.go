package sites

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db/masterdb"
)

// leaveWait is how long Leave itself waits until resolvers have forgotten a site. With a longer
// TTL it ends, and must be run again.
const leaveWait = 5 * time.Minute

// Leave removes a site from the fleet without an effect on clients. First its addresses leave the
// DNS; it answers until resolvers have forgotten them; then its access ends. Its certificates stay
// good until they end: a revoked one would spoil the answers that it signed and that caches and
// servers (stapling) still give out.
func (w Lifecycle) Leave() []Step {
	return []Step{
		w.leaveDNS(), w.forgotten(),
		{Name: "certificates", Plan: "leave them good until they end, revoke those not released yet, ban the keys, close the feed to the site", do: func(ctx context.Context) (string, error) {
			list, err := w.Store.LeaveResponder(ctx, w.Site, w.Act)
			return counted(list, "revoked, the others end by themselves"), err
		}},
		w.login(false), w.sessions(), w.slots(),
	}
}

// leaveDNS returns the zone's step. Unlike a revocation, leaving must not continue without it.
func (w Lifecycle) leaveDNS() Step {
	step := w.dns(false)
	step.goesOn = false
	withdraw := step.do
	step.do = func(ctx context.Context) (string, error) {
		text, err := withdraw(ctx)
		if err != nil || w.ByHand {
			return text, err
		}
		held, err := w.held(ctx)
		if err == nil && len(held) == 0 {
			err = fmt.Errorf("nothing was withdrawn from here (%s): take the site's addresses out of the DNS, wait for their TTL, and run it again with --withdrawn", text)
		}
		return text, err
	}
	return step
}

// held returns the site's present addresses that were removed from the DNS.
func (w Lifecycle) held(ctx context.Context) ([]masterdb.DNSAddress, error) {
	m, err := w.plan(ctx, false)
	if err != nil {
		return nil, err
	}
	list, err := w.Store.Withdrawn(ctx, w.Site)
	return slices.DeleteFunc(list, func(a masterdb.DNSAddress) bool { return !slices.Contains(m.own, a.Address) }), err
}

// forgotten waits until no resolver returns the site's addresses any more.
func (w Lifecycle) forgotten() Step {
	return Step{Name: "ttl", Plan: "let the site answer until resolvers have forgotten its addresses", do: func(ctx context.Context) (string, error) {
		if w.ByHand {
			return "over, by your word", nil
		}
		held, err := w.held(ctx)
		if err != nil {
			return "", err
		}
		var until time.Time
		for _, a := range held {
			if a.Held == nil {
				return "", fmt.Errorf("not every name server has the change at %s yet", a.Name)
			}
			if a.Held.After(until) {
				until = *a.Held
			}
		}
		at := until.UTC().Format(time.RFC3339)
		left := until.Sub(w.DNS.now())
		if left > leaveWait {
			return "", fmt.Errorf("resolvers may hold its addresses until %s: let the site answer until then", at)
		}
		if left > 0 {
			w.DNS.tell("waiting until %s, the end of the TTL; broken off, it may be run again", at)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(left):
			return "over since " + at, nil
		}
	}}
}
