package sites

import (
	"context"
	"net/netip"
	"slices"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// Move gives a site that stays another URL, or other addresses: the new ones are published once it
// answers by them, the old ones withdrawn, and the roster changes last. After an interruption a
// second run finds the same difference: so here a fault of the DNS does stop the later steps. A
// suspended site is not published.
func (w Lifecycle) Move(site masterdb.Responder, url string, addresses []netip.Addr) []Step {
	w.Site, w.url = site.Name, url
	old := Addresses(site)
	change := func(publish bool, from, than []netip.Addr) []Step {
		part := w
		part.only = slices.DeleteFunc(slices.Clone(from), func(a netip.Addr) bool { return slices.Contains(than, a) })
		if len(part.only) == 0 {
			return nil
		}
		step := part.dns(publish)
		step.Plan, step.goesOn = "withdraw "+listed(part.only), false
		if publish {
			step.Name, step.Plan = "publish", "publish "+listed(part.only)+", once it answers by them"
		} else {
			step.Name = "withdraw"
		}
		return []Step{step}
	}
	var steps []Step
	if site.State == db.ResponderActive {
		steps = change(true, addresses, old)
	}
	steps = append(steps, change(false, old, addresses)...)
	return append(steps, Step{Name: "roster", Plan: "write down " + url + " and " + listed(addresses), do: func(ctx context.Context) (string, error) {
		texts := make([]string, len(addresses))
		for i, a := range addresses {
			texts[i] = a.String()
		}
		changed, err := w.Store.AddResponder(ctx, site.Name, url, texts, w.Act)
		if err == nil && !changed {
			return "it is so already", nil
		}
		return "written", err
	}})
}
