package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// responderSet holds the flags of responder set.
type responderSet struct {
	change
	site, url string
	addresses []string
	feedPin   string
	force     bool
}

func (p *program) responderSetCommand() *cobra.Command {
	var s responderSet
	cmd := p.Command("set SITE", "give a site another URL, another feed key, or other addresses, in the DNS, too", `
		ocspctl responder set site-b --feed-pin 1f3a... --apply
		ocspctl responder set site-b --address 192.0.2.7
		ocspctl responder set site-b --address 192.0.2.7 --address 2001:db8::7 --why 'a new provider' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			s.site = args[0]
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.responderSet(ctx, store, cfg, s) })
		})
	f := cmd.Flags()
	f.StringVar(&s.url, "url", "", "the `URL` of its OCSP responder (default: as it is)")
	f.StringArrayVar(&s.addresses, "address", nil, "an IP `ADDRESS` of the site; all that it has from now on (default: as they are)")
	f.StringVar(&s.feedPin, "feed-pin", "", feedPinUsage)
	f.BoolVar(&s.force, "force", false, "publish addresses by which it does not answer, and take the last one of a name")
	s.flags(cmd)
	return cmd
}

// responderMoved is what responder set prints.
type responderMoved struct {
	cli.Outcome
	Site      string     `json:"site"`
	URL       string     `json:"url"`
	Addresses []string   `json:"addresses"`
	FeedPin   *string    `json:"feed_pin"` // null: none was given
	Steps     []stepView `json:"steps"`
}

func (p *program) responderSet(ctx context.Context, store *masterdb.DB, cfg *config.Config, s responderSet) error {
	if s.url == "" && len(s.addresses) == 0 && s.feedPin == "" {
		return cli.Usagef("want --url, --address or --feed-pin")
	}
	if err := checkFeedPin(s.feedPin); err != nil {
		return err
	}
	if s.url != "" && !isSiteURL(s.url) {
		return cli.Usagef("--url %q: want http://HOST/ or https://HOST/", s.url)
	}
	var addresses []netip.Addr
	for _, text := range s.addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return cli.Usagef("--address %q: want an IPv4 or IPv6 address", text)
		}
		addresses = append(addresses, a.Unmap())
	}
	act, err := s.act()
	if err != nil {
		return err
	}
	roster, err := store.Responders(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(roster, func(r masterdb.Responder) bool { return r.Name == s.site })
	if at < 0 {
		return fmt.Errorf("site %q: %w (ocspctl responder list shows the sites)", s.site, masterdb.ErrNoResponder)
	}
	site := roster[at]
	if s.url == "" {
		s.url = site.URL
	}
	if addresses == nil {
		addresses = fleet.Addresses(site)
	}
	run := fleet.Lifecycle{Store: store, Act: act, DNS: p.forWithdrawal(cfg.DNS, s.force)}
	var steps []fleet.Step
	if s.url != site.URL || len(s.addresses) > 0 || s.feedPin == "" {
		steps = run.Move(site, s.url, addresses)
	}
	// Tried first, with apply as well: what the master refuses must not be in the DNS.
	if err := store.Try(ctx, false, func(store *masterdb.DB) error {
		if _, err := store.AddResponder(ctx, s.site, s.url, s.addresses, act); err != nil {
			return err
		}
		return setFeedPin(ctx, store, s.site, s.feedPin, act)
	}); err != nil {
		return err
	}
	var failed error
	if s.apply {
		if err := setFeedPin(ctx, store, s.site, s.feedPin, act); err != nil {
			return err
		}
		failed = run.Run(ctx, steps, func(fleet.Step) {})
	}
	moved := responderMoved{Outcome: cli.NewOutcome("responder set", s.apply && failed == nil, true), Site: s.site, URL: s.url, Addresses: []string{}, Steps: []stepView{}, FeedPin: cli.TextOrNil(s.feedPin)}
	for _, a := range addresses {
		moved.Addresses = append(moved.Addresses, a.String())
	}
	for _, step := range steps {
		moved.Steps = append(moved.Steps, stepView{step.Name, step.Plan, cli.TextOrNil(step.Result), cli.TextOrNil(step.Fault)})
	}
	if err := p.Print(moved, moved.tell); err != nil {
		return err
	}
	return failed
}

func (r responderMoved) tell(t *cli.Table) {
	t.Row("site", r.Site)
	t.Row("url", r.URL)
	t.Row("addresses", strings.Join(r.Addresses, ", "))
	if r.FeedPin != nil {
		t.Row("feed pin", *r.FeedPin)
	}
	t.Line("")
	if len(r.Steps) == 0 || tellSteps(t, r.Steps) {
		r.Outcome.Tell(t)
	} else {
		t.Line(runAgain)
	}
}
