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

// Config is the zone, the names to edit in it, and its servers.
type Config struct {
	Zone   string   // "example.org"; the last dot is optional, here as in all names
	Server string   // the zone's primary, HOST:PORT
	Names  []string // those whose A and AAAA records are the sites' addresses
	Key    Key
	TTL    time.Duration // of records where a name had none of their kind; 0: DefaultTTL

	// Servers are the zone's authoritative servers, HOST:PORT; they are asked whether a change
	// has reached them. Empty: those of the zone's NS records, at port 53.
	Servers []string

	Timeout time.Duration    // of one try, of at most three; 0: 2 s
	Now     func() time.Time // nil: time.Now
}

// DefaultTTL is the TTL of new records: after that time clients have left a withdrawn site.
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
	port  string // of the servers in NS records

	readPatience time.Duration // until a change is served
}

// New checks a configuration. It sends no query.
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

// Name returns the zone's name, with its last dot.
func (z *Zone) Name() string { return z.c.Zone }

// Names returns the names to edit, with their last dots.
func (z *Zone) Names() []string { return slices.Clone(z.names) }

// Server returns the zone's primary.
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

// Addresses returns the addresses of all records.
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

// ttl returns the TTL of the RRset that an address belongs to; 0: there is no such RRset.
func (s Set) ttl(address netip.Addr) time.Duration {
	for _, r := range s.Records {
		if r.Address.Is4() == address.Is4() {
			return r.TTL
		}
	}
	return 0
}

// rr returns the DNS record, of class IN.
func rr(name string, address netip.Addr, ttl time.Duration) dns.RR {
	header := dns.RR_Header{Name: name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
	if address.Is4() {
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: address.AsSlice()}
	}
	return &dns.AAAA{Hdr: header, AAAA: address.AsSlice()}
}
