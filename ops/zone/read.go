package zone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Read asks the primary for the addresses of a name; the set is empty if there is no such name.
// The answer is not proven: Confirm does that.
func (z *Zone) Read(ctx context.Context, name string) (Set, error) {
	return z.readAt(ctx, z.c.Server, name)
}

func (z *Zone) readAt(ctx context.Context, server, name string) (Set, error) {
	set := Set{Name: dns.CanonicalName(name)}
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := z.query(ctx, server, set.Name, kind)
		if err != nil {
			return Set{}, fmt.Errorf("reading the addresses of %s: %w", set.Name, err)
		}
		for _, r := range answer.Answer {
			if dns.CanonicalName(r.Header().Name) != set.Name {
				continue
			}
			switch r := r.(type) {
			case *dns.CNAME:
				return Set{}, fmt.Errorf("reading the addresses of %s: it is another name for %s, and has none of its own (name that in dns.names)", set.Name, r.Target)
			case *dns.A:
				set.add(r.A, r.Hdr.Ttl)
			case *dns.AAAA:
				set.add(r.AAAA, r.Hdr.Ttl)
			}
		}
	}
	slices.SortFunc(set.Records, func(a, b Record) int { return a.Address.Compare(b.Address) })
	return set, nil
}

func (s *Set) add(octets []byte, ttl uint32) {
	if address, ok := netip.AddrFromSlice(octets); ok {
		s.Records = append(s.Records, Record{address.Unmap(), time.Duration(ttl) * time.Second})
	}
}

// query asks a server for its own data, without recursion.
func (z *Zone) query(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	answer, err := z.exchange(ctx, server, false, func() *dns.Msg {
		m := new(dns.Msg).SetQuestion(name, kind)
		m.RecursionDesired = false
		return m
	})
	if err != nil {
		return nil, err
	}
	switch {
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("%s answers %s to a query for %s (does it serve zone %s to this machine?)", server, rcode(answer.Rcode), name, z.c.Zone)
	case !answer.Authoritative:
		return nil, fmt.Errorf("%s has no authority for %s (is it a server of zone %s, and does the name lie in no zone below?)", server, name, z.c.Zone)
	}
	return answer, nil
}

// Serial reads the zone's serial number at the primary.
func (z *Zone) Serial(ctx context.Context) (uint32, error) { return z.serialAt(ctx, z.c.Server) }

func (z *Zone) serialAt(ctx context.Context, server string) (uint32, error) {
	answer, err := z.query(ctx, server, z.c.Zone, dns.TypeSOA)
	if err != nil {
		return 0, fmt.Errorf("reading the serial of zone %s: %w", z.c.Zone, err)
	}
	for _, r := range answer.Answer {
		if soa, ok := r.(*dns.SOA); ok && dns.CanonicalName(soa.Hdr.Name) == z.c.Zone {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("reading the serial of zone %s: %w", z.c.Zone, fmt.Errorf("%s has no such zone, but one above it (see dns.zone)", server))
}

// Confirm makes the primary prove, by a signed update that has prerequisites and changes
// nothing, that a name has exactly these addresses.
func (z *Zone) Confirm(ctx context.Context, set Set) error {
	err := z.update(ctx, set, nil, nil)
	if errors.Is(err, errChanged) {
		return fmt.Errorf("confirming the addresses of %s: they are not as they were read (changed meanwhile, another view, or a wildcard)", set.Name)
	}
	if err != nil {
		return fmt.Errorf("confirming the addresses of %s: %w", set.Name, err)
	}
	return nil
}

// CheckKey makes the primary prove that it accepts updates of the zone with our key: it sends
// one that changes nothing if the zone has a serial number, which every zone has.
func (z *Zone) CheckKey(ctx context.Context) error {
	answer, err := z.exchange(ctx, z.c.Server, true, func() *dns.Msg {
		m := new(dns.Msg).SetUpdate(z.c.Zone)
		m.RRsetUsed([]dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: z.c.Zone, Rrtype: dns.TypeSOA}}})
		return m
	})
	if err == nil && answer.Rcode != dns.RcodeSuccess {
		err = z.refusal(answer, z.names[0])
	}
	if err != nil {
		return fmt.Errorf("trying key %s: %w", z.c.Key, err)
	}
	return nil
}

// longest is the longest time that a resolver may keep one of the records.
func longest(records []Record) time.Duration {
	if len(records) == 0 {
		return 0
	}
	return slices.MaxFunc(records, func(a, b Record) int { return cmp.Compare(a.TTL, b.TTL) }).TTL
}
