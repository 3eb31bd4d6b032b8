package responder

import (
	"context"
	"net/netip"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/sites"
)

// set is responder set.
type set struct {
	cli.Change
	Site      string   `arg:"SITE"`
	URL       string   `flag:"url" help:"the <URL> of its OCSP responder (default: as it is)"`
	Addresses []string `flag:"address" help:"an IP <ADDRESS> of the site; all that it has from now on (default: as they are)"`
	Force     bool     `flag:"force" help:"publish addresses by which it does not answer, and take the last one of a name"`
	feedPin
}

func (set) Doc() cli.Doc {
	return cli.Doc{
		Name: "set", Short: "give a site another URL, another feed key, or other addresses, in the DNS, too",
		Long: `For a site that moves, or that was enrolled without its addresses. With dns in
ocspctl.yaml the new addresses are published once it answers by them (a minute at
most), then the old ones withdrawn, and last the roster changed: broken off, run it
again. A suspended site is published by responder restore. --feed-pin needs no CA key.`,
		Example: `
		ocspctl responder set site-b --feed-pin 1f3a... --apply
		ocspctl responder set site-b --address 192.0.2.7
		ocspctl responder set site-b --address 192.0.2.7 --address 2001:db8::7 --why 'a new provider' --apply`,
	}
}

func (v *set) Run(ctx context.Context, m *ctl.Master) error {
	if v.URL == "" && len(v.Addresses) == 0 && v.Pin == "" {
		return cli.Usagef("want --url, --address or --feed-pin")
	}
	if err := v.feedPin.check(); err != nil {
		return err
	}
	if v.URL != "" && !isSiteURL(v.URL) {
		return cli.Usagef("--url %q: want http://HOST/ or https://HOST/", v.URL)
	}
	var addresses []netip.Addr
	for _, text := range v.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return cli.Usagef("--address %q: want an IPv4 or IPv6 address", text)
		}
		addresses = append(addresses, a.Unmap())
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	s, err := find(ctx, m, v.Site)
	if err != nil {
		return err
	}
	if v.URL == "" {
		v.URL = s.URL
	}
	if addresses == nil {
		addresses = sites.Addresses(s.Responder)
	}
	run := sites.Lifecycle{Store: m.Store, Act: act, DNS: withdrawalDNS(m, v.Force)}
	var steps did
	if v.URL != s.URL || len(v.Addresses) > 0 || v.Pin == "" {
		steps = run.Move(s.Responder, v.URL, addresses)
	}
	// Tried first, with --apply as well: what the master refuses must not be in the DNS.
	if err := m.Store.Try(ctx, false, func(store *masterdb.DB) error {
		if _, err := store.AddResponder(ctx, v.Site, v.URL, v.Addresses, act); err != nil {
			return err
		}
		return v.feedPin.set(ctx, store, v.Site, act)
	}); err != nil {
		return err
	}
	var failed error
	if v.Apply {
		if err := v.feedPin.set(ctx, m.Store, v.Site, act); err != nil {
			return err
		}
		failed = run.Run(ctx, steps, func(sites.Step) {})
	}
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	o := v.Outcome(true)
	o.Applied = v.Apply && failed == nil
	table := cli.Quiet(steps.part())
	if len(steps) > 0 {
		table = steps.part()
	}
	if err := m.Show(cli.Quiet(o), cli.Record{
		cli.F("site", "site", v.Site), cli.F("url", "url", v.URL), cli.F("addresses", "addresses", texts), cli.Maybe("feed_pin", "feed pin", v.Pin),
	}, cli.Below(table), steps.end(o)); err != nil {
		return err
	}
	return failed
}
