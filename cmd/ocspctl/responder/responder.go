package responder

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/sites"
	"ocspfleet/sync/feedhttp"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("responder", "the sites and their OCSP certificates",
		ctl.AtMaster(&add{Life: certprofile.DefaultLife}), ctl.AtMaster(&list{}), ctl.AtMaster(&show{}), ctl.AtMaster(&renew{}),
		ctl.AtMaster(&revoke{}), ctl.AtMaster(&suspend{}), ctl.AtMaster(&restore{}), ctl.AtMaster(&leave{}),
		ctl.AtMaster(&bundle{Count: 8, Every: certprofile.DefaultLife / 2, Life: certprofile.DefaultLife}), ctl.AtMaster(&release{}), ctl.AtMaster(&serials{}), ctl.AtMaster(&set{}))
}

// feedPin lets a site fetch the signed feed.
type feedPin struct {
	Pin string `flag:"feed-pin" help:"let it fetch the signed feed: the <PIN> of its TLS key (ocspctl key pin there)"`
}

func (f feedPin) check() error {
	if _, err := feedhttp.ParsePin(f.Pin); f.Pin != "" && err != nil {
		return cli.Usagef("--feed-pin: %v", err)
	}
	return nil
}

// set writes the checked pin into the site's row; without a pin it does nothing.
func (f feedPin) set(ctx context.Context, store *masterdb.DB, site string, act db.Act) error {
	if f.Pin == "" {
		return nil
	}
	pin, err := feedhttp.ParsePin(f.Pin)
	if err == nil {
		_, err = store.SetFeedPin(ctx, site, pin, act)
	}
	return err
}

// isSiteURL says whether clients can reach a site by this URL.
func isSiteURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// withdrawalDNS returns the DNS for these verbs. A fault of the DNS is a fault only of its own
// step: a revocation does not wait for it.
func withdrawalDNS(m *ctl.Master, force bool) sites.DNS {
	d := m.Config.DNS
	dns := sites.DNS{Dry: d.Dry, Force: force, Now: m.Now, Told: func(text string) { fmt.Fprintf(m.Stderr, "ocspctl: dns: %s\n", text) }}
	if d.Set() {
		dns.Zone, dns.Broken = settings.OpenZone(d, m.Now)
	}
	return dns
}

// did is the list of the steps of a change of a site's state, as they are shown.
type did []sites.Step

func (d did) done() bool {
	return !slices.ContainsFunc(d, func(s sites.Step) bool { return s.Fault != "" })
}

// part returns the table of the steps; a result is null if nothing was done, a fault says why the
// step, or a part of it, failed.
func (d did) part() cli.Part { return cli.List("steps", d, step) }

func step(s sites.Step) cli.Record {
	result := s.Result
	if s.Fault != "" {
		result = strings.TrimPrefix(result+"; ", "; ") + "NOT DONE: " + s.Fault
	}
	return cli.Record{
		cli.F("step", "STEP", s.Name), cli.F("plan", "WHAT", s.Plan), cli.Shown("result", "RESULT", cli.OrNil(s.Result), result),
		cli.F("fault", "", cli.OrNil(s.Fault)),
	}
}

// end returns the last line for people: the outcome, or that not all of it is done.
func (d did) end(o cli.Outcome) cli.Part {
	if d.done() {
		return cli.Said(o.Tell)
	}
	return cli.Line("Not all of it is done: run the same command again.")
}
