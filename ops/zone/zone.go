// Package zone takes a site's addresses out of the DNS, and puts them back, by
// dynamic update of the zone's primary (RFC 2136), signed by TSIG (RFC 8945).
//
// It owns the A and AAAA records of a few names and touches nothing else. It trusts
// the primary for what its key has signed, and nobody for anything else: what a
// plain query says is a hint only, by which an update is made that holds if that was
// true. Each update names the whole RRsets that were read as its prerequisites (RFC
// 2136 section 2.4.2): two desks at once never undo each other, the later one reads
// again. It promises never to leave a name without an address unless told to.
//
// The keys of a configuration that errors name (dns.server, ...) are those of
// ocspctl.yaml.
package zone

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Config says which names of which zone are kept, and how its servers are met.
type Config struct {
	Zone   string   // "example.org"; a last dot may stand or not, here as in all names
	Server string   // the zone's primary, HOST:PORT
	Names  []string // those whose A and AAAA records are the sites' addresses
	Key    Key
	TTL    time.Duration // of records where a name had none of their kind; 0: DefaultTTL

	// Servers are the zone's authoritative servers, HOST:PORT, that are asked whether a
	// change has reached them. None: those of the zone's NS records, at port 53.
	Servers []string

	Timeout time.Duration    // of one try, of which there are three at most; 0: 2 s
	Now     func() time.Time // nil: time.Now
}

// DefaultTTL is that of new records: a withdrawn site's clients are away in so long.
const DefaultTTL = time.Minute

// CheckName says what is wrong with a name in the DNS.
func CheckName(name string) error {
	if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.ContainsAny(name, " \t\\*") {
		return fmt.Errorf("%q is no name in the DNS", name)
	}
	return nil
}

// Within says whether name is the zone's apex or lies below it.
func Within(zone, name string) bool {
	return dns.IsSubDomain(dns.CanonicalName(zone), dns.CanonicalName(name))
}

// Zone is a zone as its primary serves it. Safe for concurrent use.
type Zone struct {
	c     Config
	names []string
	port  string // of the servers that NS records name

	readPatience time.Duration // until a change that was made is served
}

// New checks a configuration. It asks nobody.
func New(c Config) (*Zone, error) {
	if err := CheckName(c.Zone); err != nil {
		return nil, fmt.Errorf("dns.zone: %w", err)
	}
	if len(c.Names) == 0 {
		return nil, errors.New("dns.names: there are none")
	}
	z := &Zone{c: c, port: "53", readPatience: 10 * time.Second}
	for _, name := range c.Names {
		if err := CheckName(name); err != nil {
			return nil, fmt.Errorf("dns.names: %w", err)
		}
		if !Within(c.Zone, name) {
			return nil, fmt.Errorf("dns.names: %s does not lie in zone %s", name, c.Zone)
		}
		z.names = append(z.names, dns.CanonicalName(name))
	}
	for _, server := range append([]string{c.Server}, c.Servers...) {
		if _, _, err := net.SplitHostPort(server); err != nil {
			return nil, fmt.Errorf("dns.server: %q: want HOST:PORT", server)
		}
	}
	if err := c.Key.check(); err != nil {
		return nil, err
	}
	z.c.Zone = dns.CanonicalName(c.Zone)
	z.c.Key.Name = dns.CanonicalName(c.Key.Name)
	z.c.TTL = cmp.Or(c.TTL, DefaultTTL)
	z.c.Timeout = cmp.Or(c.Timeout, 2*time.Second)
	if z.c.Now == nil {
		z.c.Now = time.Now
	}
	return z, nil
}

// Name is the zone's own, with its last dot.
func (z *Zone) Name() string { return z.c.Zone }

// Names are those that it keeps, with their last dots.
func (z *Zone) Names() []string { return slices.Clone(z.names) }

// Server is the zone's primary.
func (z *Zone) Server() string { return z.c.Server }

// Record is one address of a name.
type Record struct {
	Address netip.Addr
	TTL     time.Duration // of its RRset
}

// Set is all addresses that a name has, sorted: its A and its AAAA RRset.
type Set struct {
	Name    string
	Records []Record
}

// Addresses are those of all records.
func (s Set) Addresses() []netip.Addr {
	list := make([]netip.Addr, len(s.Records))
	for i, r := range s.Records {
		list[i] = r.Address
	}
	return list
}

// Has says whether the name has the address.
func (s Set) Has(address netip.Addr) bool {
	return slices.ContainsFunc(s.Records, func(r Record) bool { return r.Address == address })
}

// ttl is that of the RRset an address belongs to; 0: there is no such RRset.
func (s Set) ttl(address netip.Addr) time.Duration {
	for _, r := range s.Records {
		if r.Address.Is4() == address.Is4() {
			return r.TTL
		}
	}
	return 0
}

// rr is the record in the DNS, of class IN.
func rr(name string, address netip.Addr, ttl time.Duration) dns.RR {
	header := dns.RR_Header{Name: name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
	if address.Is4() {
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: address.AsSlice()}
	}
	return &dns.AAAA{Hdr: header, AAAA: address.AsSlice()}
}
