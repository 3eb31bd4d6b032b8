package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/ops/sites"
	"ocspfleet/ops/zone"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("dns", "the sites' addresses in the DNS", ctl.AtMaster(&show{}), ctl.AtMaster(&check{}))
}

// show is dns show.
type show struct{}

func (show) Doc() cli.Doc {
	return cli.Doc{
		Name: "show", Short: "show the names that clients ask, with the addresses and the sites behind them",
		Long: `Reads the names of dns.names in ocspctl.yaml at the zone's primary, shows their
addresses with the sites that have them on the roster, and asks the zone's
authoritative servers which serial they have.`,
		Example: `
		ocspctl dns show
		ocspctl dns show --output json`,
	}
}

func (show) Run(ctx context.Context, m *ctl.Master) error { return examine(ctx, m, false) }

// check is dns check.
type check struct{}

func (check) Doc() cli.Doc {
	return cli.Doc{
		Name: "check", Short: "compare the zone with the roster; exit code 3 when anything differs",
		Long: `Shows what dns show does, and has the primary confirm each name by the TSIG key.
Exit code 3 when a name has an address of a site that is not active, or of none;
lacks one of an active site (of a kind, A or AAAA, that it has); has none, or is an
alias; or when a server is behind or does not answer. Each with the fix. It changes
nothing: responder revoke, suspend and restore do. For a timer.`,
		Example: `
		ocspctl dns check
		ocspctl dns check --output json`,
	}
}

func (check) Run(ctx context.Context, m *ctl.Master) error { return examine(ctx, m, true) }

// examine shows the zone. With check, the primary confirms each name, and a fault is an error.
func examine(ctx context.Context, m *ctl.Master, check bool) error {
	if !m.Config.DNS.Set() {
		return errors.New("the configuration names no zone: set dns.zone, dns.server, dns.names, dns.key and dns.secret_file (docs/dns.md)")
	}
	z, err := settings.OpenZone(m.Config.DNS, m.Now)
	if err != nil {
		return err
	}
	seen, err := sites.ViewZone(ctx, m.Store, z, check)
	if err != nil {
		return err
	}
	faults := seen.Faults()
	if err := m.Show(
		cli.Record{cli.F("zone", "zone", z.Name()), cli.F("server", "primary", z.Server()), cli.F("serial", "serial", seen.Serial)},
		cli.Line(""), cli.List("", places(seen.Names), row), cli.Quiet(cli.List("names", seen.Names, name)),
		cli.Line(""), cli.List("servers", seen.Servers, server),
		cli.Record{cli.F("faults", "", faults)}); err != nil {
		return err
	}
	if n := len(faults); check && n > 0 {
		return cli.Wrongf("zone %s and the roster differ, %d times:\n%s", z.Name(), n, strings.Join(faults, "\n"))
	}
	return nil
}

// place is one address of a name, or a fault of the name.
type place struct {
	name, fault string
	at          sites.ZoneRecord
	there       bool
}

func places(names []sites.ZoneName) []place {
	var all []place
	for _, n := range names {
		if n.Fault != "" {
			all = append(all, place{name: n.Name, fault: n.Fault})
		}
		for _, r := range n.Records {
			all = append(all, place{name: n.Name, at: r, there: true})
		}
		for _, r := range n.Missing {
			all = append(all, place{name: n.Name, at: r})
		}
	}
	return all
}

// row returns a place for people.
func row(p place) cli.Record {
	if p.fault != "" {
		return cli.Record{cli.F("", "NAME", p.name), cli.F("", "ADDRESS", nil), cli.F("", "TTL", nil), cli.F("", "SITE", nil), cli.F("", "STATE", "FAULT: "+p.fault)}
	}
	return append(cli.Record{cli.F("", "NAME", p.name)}, address(p.at, p.there)...)
}

func name(n sites.ZoneName) cli.Record {
	return cli.Record{
		cli.F("name", "", n.Name), cli.F("fault", "", cli.OrNil(n.Fault)),
		cli.F("addresses", "", cli.Records(n.Records, func(r sites.ZoneRecord) cli.Record { return address(r, true) })),
		cli.F("missing", "", cli.Records(n.Missing, func(r sites.ZoneRecord) cli.Record { return address(r, false) })),
	}
}

// address returns an address that a name has, or lacks: then it has no TTL. The sites are those of
// the roster; none: it belongs to none.
func address(r sites.ZoneRecord, there bool) cli.Record {
	ttl, shown, well := any(nil), "-", "missing"
	if there {
		ttl, shown, well = int(r.TTL/time.Second), fmt.Sprintf("%ds", r.TTL/time.Second), "there"
	}
	return cli.Record{
		cli.F("address", "ADDRESS", r.Address), cli.Shown("ttl_seconds", "TTL", ttl, shown), cli.F("sites", "SITE", r.Sites),
		cli.Shown("fault", "STATE", cli.OrNil(r.Fault), state(r.Fault, well)),
	}
}

// server returns an authoritative server; its serial is null if it did not answer.
func server(s zone.State) cli.Record {
	fault := ""
	if s.Err != nil {
		fault = s.Err.Error()
	}
	return cli.Record{
		cli.F("server", "SERVER", s.Server), cli.F("serial", "SERIAL", cli.OrNil(s.Serial)),
		cli.Shown("fault", "STATE", cli.OrNil(fault), state(fault, "ok")),
	}
}

func state(fault, well string) string {
	if fault != "" {
		return "FAULT: " + fault
	}
	return well
}
