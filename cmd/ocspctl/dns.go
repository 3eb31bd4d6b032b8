package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/fleet"
	"ocspfleet/ops/zone"
)

func (p *program) dnsCommand() *cobra.Command {
	show := p.verb("show", "show the names that clients ask, with the addresses and the sites behind them", `
		ocspctl dns show
		ocspctl dns show --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, cfg *config) error { return p.dnsView(ctx, store, cfg, false) })
		})
	check := p.verb("check", "compare the zone with the roster; exit code 3 when anything differs", `
		ocspctl dns check
		ocspctl dns check --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, cfg *config) error { return p.dnsView(ctx, store, cfg, true) })
		})
	return noun("dns", "the sites' addresses in the DNS", show, check)
}

// zoneView is the zone as ocspctl shows it.
type zoneView struct {
	Zone    string       `json:"zone"`
	Server  string       `json:"server"` // the primary
	Serial  uint32       `json:"serial"` // there
	Names   []nameView   `json:"names"`
	Servers []serverView `json:"servers"` // the authoritative ones
	Faults  []string     `json:"faults"`
}

type nameView struct {
	Name      string       `json:"name"`
	Fault     *string      `json:"fault"`
	Addresses []recordView `json:"addresses"`
	Missing   []recordView `json:"missing"` // addresses of active sites that it does not have
}

type recordView struct {
	Address string   `json:"address"`
	TTL     *int     `json:"ttl_seconds"` // null: it is not there
	Sites   []string `json:"sites"`       // by the roster; none: nobody's
	Fault   *string  `json:"fault"`
}

type serverView struct {
	Server string  `json:"server"`
	Serial *uint32 `json:"serial"` // null: it did not say
	Fault  *string `json:"fault"`
}

func (p *program) dnsView(ctx context.Context, store *db.Store, cfg *config, check bool) error {
	if !cfg.DNS.set() {
		return errors.New("the configuration names no zone: set dns.zone, dns.server, dns.names, dns.key and dns.secret_file (docs/dns.md)")
	}
	z, err := cfg.DNS.zone(p.now)
	if err != nil {
		return err
	}
	seen, err := fleet.ViewZone(ctx, store, z, check)
	if err != nil {
		return err
	}
	view := viewZone(z, seen)
	if err := p.print(view, view.tell); err != nil {
		return err
	}
	if n := len(view.Faults); check && n > 0 {
		return wrongf("zone %s and the roster differ, %d times:\n%s", z.Name(), n, strings.Join(view.Faults, "\n"))
	}
	return nil
}

func viewZone(z *zone.Zone, seen fleet.ZoneView) zoneView {
	view := zoneView{Zone: z.Name(), Server: z.Server(), Serial: seen.Serial, Faults: append([]string{}, seen.Faults()...)}
	for _, n := range seen.Names {
		name := nameView{Name: n.Name, Fault: textOrNil(n.Fault), Addresses: []recordView{}, Missing: []recordView{}}
		for _, r := range n.Records {
			name.Addresses = append(name.Addresses, recordView{r.Address.String(), new(int(r.TTL / time.Second)), append([]string{}, r.Sites...), textOrNil(r.Fault)})
		}
		for _, r := range n.Missing {
			name.Missing = append(name.Missing, recordView{r.Address.String(), nil, r.Sites, textOrNil(r.Fault)})
		}
		view.Names = append(view.Names, name)
	}
	for _, s := range seen.Servers {
		server := serverView{Server: s.Server}
		if s.Serial != 0 {
			server.Serial = new(s.Serial)
		}
		if s.Err != nil {
			server.Fault = new(s.Err.Error())
		}
		view.Servers = append(view.Servers, server)
	}
	return view
}

func (v zoneView) tell(t *table) {
	t.row("zone", v.Zone)
	t.row("primary", v.Server)
	t.row("serial", strconv.FormatUint(uint64(v.Serial), 10))
	t.line("")
	t.row("NAME", "ADDRESS", "TTL", "SITE", "STATE")
	for _, n := range v.Names {
		if n.Fault != nil {
			t.row(n.Name, "-", "-", "-", "FAULT: "+*n.Fault)
		}
		for _, r := range n.Addresses {
			t.row(n.Name, r.Address, fmt.Sprintf("%ds", *r.TTL), strings.Join(r.Sites, ", "), state(r.Fault, "there"))
		}
		for _, r := range n.Missing {
			t.row(n.Name, r.Address, "-", strings.Join(r.Sites, ", "), state(r.Fault, "missing"))
		}
	}
	t.line("")
	t.row("SERVER", "SERIAL", "STATE")
	for _, s := range v.Servers {
		serial := "-"
		if s.Serial != nil {
			serial = strconv.FormatUint(uint64(*s.Serial), 10)
		}
		t.row(s.Server, serial, state(s.Fault, "ok"))
	}
}

func state(fault *string, well string) string {
	if fault != nil {
		return "FAULT: " + *fault
	}
	return well
}
