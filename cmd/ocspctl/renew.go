package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// renew holds the flags of fleet renew and responder renew.
type renew struct {
	change
	site    string // empty: all
	issuers []string
	life    time.Duration // 0: as the last one
}

func (r *renew) renewFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&r.issuers, "issuer", nil, "an issuer's `NAME`; may stand several times (default: all)")
	cmd.Flags().DurationVar(&r.life, "life", 0, "how long the new certificates live (default: as long as the last ones)")
	r.flags(cmd)
}

func (p *program) fleetRenewCommand() *cobra.Command {
	var r renew
	cmd := p.Command("renew", "issue anew every certificate of which half of its life is over; for a timer", `
		ocspctl fleet renew
		ocspctl fleet renew --apply --why 'timer'`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.renew(ctx, store, cfg, r) })
		})
	r.renewFlags(cmd)
	return cmd
}

func (p *program) responderRenewCommand() *cobra.Command {
	var r renew
	cmd := p.Command("renew SITE", "issue a site's certificates anew now, whatever is left of them", `
		ocspctl responder renew site-b
		ocspctl responder renew site-b --issuer web-ca --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			if r.site = args[0]; db.CheckSite(r.site) != nil {
				return cli.Usagef("%v", db.CheckSite(r.site))
			}
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.renew(ctx, store, cfg, r) })
		})
	r.renewFlags(cmd)
	return cmd
}

// renewed is one certificate as the renewing verbs print it.
type renewed struct {
	Site     string  `json:"site"`
	Issuer   string  `json:"issuer"`
	Key      string  `json:"key_kind"`
	Serial   string  `json:"serial"`
	NotAfter *string `json:"not_after"`
	Left     float64 `json:"life_left"` // part of its life: 1 new, 0 ended
	Action   string  `json:"action"`    // keep, renew, renewed or refused
	Detail   *string `json:"detail"`
	Next     *string `json:"next_serial"` // of the new one
}

func (p *program) renew(ctx context.Context, store *masterdb.DB, cfg *config.Config, r renew) error {
	if r.life != 0 && (r.life < time.Hour || r.life > fleet.MaxLife) {
		return cli.Usagef("--life %s: want 1h to %s", r.life, fleet.MaxLife)
	}
	act, err := r.act()
	if err != nil {
		return err
	}
	roster, err := store.Responders(ctx)
	if err != nil {
		return err
	}
	if r.site != "" && !slices.ContainsFunc(roster, func(known masterdb.Responder) bool { return known.Name == r.site }) {
		return fmt.Errorf("site %q: %w (ocspctl responder list shows the sites)", r.site, masterdb.ErrNoResponder)
	}
	return p.withAuthoritiesAtHand(ctx, store, cfg, r.issuers, func(authorities []*fleet.Authority, elsewhere []db.Issuer, fault error) error {
		lines := []renewed{}
		faults := []error{fault} // the others are renewed all the same
		changed := false
		for _, one := range fleet.Renewals(roster, authorities, p.Now()) {
			if r.site != "" && one.Site != r.site {
				continue
			}
			line := renewed{one.Site, one.Issuer, one.Kind, one.Serial.String(), cli.StampOrNil(one.NotAfter), one.Left, "keep", cli.TextOrNil(one.Refused), nil}
			switch {
			case one.Refused != "":
				line.Action = "refused"
			case one.Due || r.site != "":
				line.Action, changed = "renew", true
				if r.apply {
					if err := line.do(ctx, store, p.Now(), one, r.life, act); err != nil {
						faults = append(faults, err)
					}
				}
			}
			lines = append(lines, line)
		}
		elsewhere = slices.DeleteFunc(elsewhere, func(issuer db.Issuer) bool { return !r.concerns(roster, issuer) })
		return p.tellRenewed(r, lines, changed, elsewhere, errors.Join(faults...))
	})
}

// concerns says whether there is something of an issuer to renew, or it was asked for.
func (r *renew) concerns(roster []masterdb.Responder, issuer db.Issuer) bool {
	return slices.Contains(r.issuers, issuer.Name) || slices.ContainsFunc(roster, func(site masterdb.Responder) bool {
		return (r.site == "" || r.site == site.Name) && site.State == db.ResponderActive &&
			slices.ContainsFunc(site.Certificates, func(c masterdb.RosterCertificate) bool { return c.IssuerID == issuer.ID })
	})
}

func (line *renewed) do(ctx context.Context, store *masterdb.DB, now time.Time, one fleet.Renewal, life time.Duration, act db.Act) error {
	c, err := one.Do(ctx, store, life, now, rand.Reader, act)
	if err != nil {
		line.Detail = new(err.Error())
		return err
	}
	line.Action, line.Next = "renewed", new(c.Serial.String())
	return nil
}

// tellRenewed prints what was done, and judges what is left.
func (p *program) tellRenewed(r renew, lines []renewed, changed bool, elsewhere []db.Issuer, fault error) error {
	result := struct {
		cli.Outcome
		Certificates []renewed `json:"certificates"`
	}{cli.NewOutcome("fleet renew", r.apply, changed), lines}
	if r.site != "" {
		result.Action = "responder renew"
	}
	err := p.Print(result, func(t *cli.Table) {
		t.Row("SITE", "ISSUER", "KEY", "SERIAL", "NOT AFTER", "LIFE LEFT", "ACTION", "NEXT SERIAL", "DETAIL")
		for _, l := range lines {
			t.Row(l.Site, l.Issuer, l.Key, l.Serial, cli.OrDash(l.NotAfter), fmt.Sprintf("%.0f %%", 100*l.Left), l.Action, cli.OrDash(l.Next), cli.OrDash(l.Detail))
		}
		result.Outcome.Tell(t)
	})
	var wrong []string
	if err := keysElsewhere("renewal", elsewhere); err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, l := range lines {
		switch {
		case l.Action == "refused":
			wrong = append(wrong, fmt.Sprintf("%s for %s is refused: %s", l.Site, l.Issuer, cli.OrDash(l.Detail)))
		case l.Action != "renewed" && l.Left < fleet.Alarm:
			wrong = append(wrong, fmt.Sprintf("%s for %s has %.0f %% of its life left: the timer does not renew it", l.Site, l.Issuer, 100*l.Left))
		}
	}
	switch {
	case err != nil:
		return err
	case fault != nil:
		return fault
	case r.site != "" && len(lines) == 0 && len(elsewhere) == 0:
		return fmt.Errorf("site %q has no certificate to go by, or is not active: ocspctl responder add", r.site)
	case len(wrong) > 0:
		return cli.Wrongf("%s", strings.Join(wrong, "; "))
	}
	return nil
}
