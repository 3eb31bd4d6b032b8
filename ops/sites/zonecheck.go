package sites

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/zone"
)

// ZoneRecord is one address of a name, compared with the roster.
type ZoneRecord struct {
	Address netip.Addr
	TTL     time.Duration
	Sites   []string // its sites by the roster; none: no site's
	Fault   string   // why it should not be there; empty: it should
}

// ZoneName is one name of the zone, compared with the roster.
type ZoneName struct {
	Name    string
	Records []ZoneRecord
	Missing []ZoneRecord // addresses of active sites that it lacks
	Fault   string       // why it could not be read, or another fault
}

// ZoneView is the zone compared with the roster.
type ZoneView struct {
	Serial  uint32 // at the primary
	Names   []ZoneName
	Servers []zone.State // Err: it does not answer, or lacks the primary's version
	// Unlisted are active sites without an address on the roster: no address would leave the DNS
	// with them.
	Unlisted []string
}

// Faults lists all differences, for people.
func (v ZoneView) Faults() []string {
	var list []string
	for _, n := range v.Names {
		if n.Fault != "" {
			list = append(list, n.Name+": "+n.Fault)
		}
		for _, r := range append(slices.Clone(n.Records), n.Missing...) {
			if r.Fault != "" {
				list = append(list, fmt.Sprintf("%s: %s %s", n.Name, r.Address, r.Fault))
			}
		}
	}
	for _, site := range v.Unlisted {
		list = append(list, fmt.Sprintf("site %s has no address on the roster (ocspctl responder set %s --address ... --apply)", site, site))
	}
	for _, s := range v.Servers {
		if s.Err != nil {
			list = append(list, fmt.Sprintf("server %s: %v", s.Server, s.Err))
		}
	}
	return list
}

// ViewZone reads the zone and compares it with the roster. With confirm the primary must confirm,
// by its signature, that each name is as it was read. If the zone cannot be read at all, that is
// an error; any other fault is in the view.
func ViewZone(ctx context.Context, store *masterdb.DB, z *zone.Zone, confirm bool) (ZoneView, error) {
	roster, err := store.Responders(ctx)
	if err != nil {
		return ZoneView{}, err
	}
	var v ZoneView
	if v.Serial, err = z.Serial(ctx); err != nil {
		return ZoneView{}, err
	}
	for _, site := range roster {
		if site.State == db.ResponderActive && len(Addresses(site)) == 0 {
			v.Unlisted = append(v.Unlisted, site.Name)
		}
	}
	for _, name := range z.Names() {
		n := ZoneName{Name: name}
		set, err := z.Read(ctx, name)
		if err == nil && confirm {
			err = z.Confirm(ctx, set)
		}
		if err != nil {
			n.Fault = err.Error()
		} else {
			n.compare(set, roster)
		}
		v.Names = append(v.Names, n)
	}
	servers, err := z.Servers(ctx)
	if err != nil {
		return ZoneView{}, err
	}
	// Asked once: a server that is fetching the zone right now is reported as behind.
	now, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, server := range servers {
		s := z.Ask(now, server)
		if s.Err == nil && int32(s.Serial-v.Serial) < 0 {
			s.Err = fmt.Errorf("it has serial %d, the primary %d (does the primary notify it, and let it transfer?)", s.Serial, v.Serial)
		}
		v.Servers = append(v.Servers, s)
	}
	return v, nil
}

// compare compares a name's addresses with the roster.
func (n *ZoneName) compare(set zone.Set, roster []masterdb.Responder) {
	if len(set.Records) == 0 {
		n.Fault = "it has no address"
	}
	for _, r := range set.Records {
		n.Records = append(n.Records, judgeRecord(r, roster))
	}
	for _, site := range roster {
		if site.State != db.ResponderActive {
			continue
		}
		for _, a := range Addresses(site) {
			if !set.Has(a) && carries(set, a) {
				n.Missing = append(n.Missing, ZoneRecord{
					Address: a, Sites: []string{site.Name},
					Fault: fmt.Sprintf("of site %s is not there (ocspctl responder restore %s --apply)", site.Name, site.Name),
				})
			}
		}
	}
}

func judgeRecord(r zone.Record, roster []masterdb.Responder) ZoneRecord {
	record := ZoneRecord{Address: r.Address, TTL: r.TTL}
	var out []string
	active := false
	for _, site := range roster {
		if !slices.Contains(Addresses(site), r.Address) {
			continue
		}
		record.Sites = append(record.Sites, site.Name)
		if site.State == db.ResponderActive {
			active = true
			continue
		}
		verb := "suspend " + site.Name
		switch site.State {
		case db.ResponderRevoked:
			verb = "revoke " + site.Name + " --reason NAME"
		case db.ResponderLeft:
			verb = "leave " + site.Name
		}
		out = append(out, fmt.Sprintf("site %s is %s (ocspctl responder %s --apply withdraws it)", site.Name, site.State, verb))
	}
	switch {
	case active:
	case len(out) > 0:
		record.Fault = strings.Join(out, "; ")
	default:
		record.Fault = "is no site's by the roster (whose is it? ocspctl responder set SITE --address ...)"
	}
	return record
}
