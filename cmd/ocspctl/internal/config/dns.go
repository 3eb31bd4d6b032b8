package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ocspfleet/ops/zone"
)

// DNS says where the sites' addresses stand in the DNS, and by which key ocspctl
// changes them there. Without it they are named for work by hand.
type DNS struct {
	// Zone is the zone's name: example.org.
	Zone string `yaml:"zone"`
	// Server is the zone's primary, HOST:PORT, which takes dynamic updates (RFC 2136).
	Server string `yaml:"server"`
	// Names are those that clients ask: ocsp.example.org. Every active site is to stand
	// at each, by its addresses of the kinds (A, AAAA) that the name has.
	Names []string `yaml:"names"`
	// Key is the name of the TSIG key (RFC 8945), as the primary knows it.
	Key string `yaml:"key"`
	// Algorithm of the key: hmac-sha256 (default), hmac-sha384 or hmac-sha512.
	Algorithm string `yaml:"algorithm"`
	// SecretFile holds the key's secret: base64, or the file as tsig-keygen or keymgr -t
	// prints it. Readable by you only.
	SecretFile string `yaml:"secret_file"`
	// TTL is that of addresses where a name has none of their kind (default 1m); else
	// they get the one that is there. It is for how long clients go on asking a site
	// that was withdrawn: 30s to 1h.
	TTL time.Duration `yaml:"ttl"`
	// Servers are the zone's authoritative servers, HOST:PORT, that must have a change
	// before it counts as done. Empty: those of the zone's NS records.
	Servers []string `yaml:"servers"`
	// Dry reads the zone and says what would change, and leaves the change to people.
	Dry bool `yaml:"dry"`
}

func (d DNS) Set() bool {
	return d.Zone+d.Server+d.Key+d.Algorithm+d.SecretFile != "" || len(d.Names)+len(d.Servers) > 0 || d.TTL != 0 || d.Dry
}

// The bounds of ttl: shorter ones burden the zone's servers for nothing, longer ones
// keep a site that was broken into among the clients.
const (
	leastTTL = 30 * time.Second
	mostTTL  = time.Hour
)

func (d DNS) check(report func(key, problem string)) {
	if !d.Set() {
		return
	}
	for key, value := range map[string]string{"zone": d.Zone, "server": d.Server, "key": d.Key, "secret_file": d.SecretFile} {
		if value == "" {
			report("dns."+key, "is missing")
		}
	}
	if d.Zone != "" {
		if err := zone.CheckName(d.Zone); err != nil {
			report("dns.zone", err.Error())
		}
	}
	if len(d.Names) == 0 {
		report("dns.names", "is missing: the names that clients ask, [ocsp."+d.Zone+"]")
	}
	for i, name := range d.Names {
		key := fmt.Sprintf("dns.names[%d]", i)
		if err := zone.CheckName(name); err != nil {
			report(key, err.Error())
		} else if d.Zone != "" && zone.CheckName(d.Zone) == nil && !zone.Within(d.Zone, name) {
			report(key, fmt.Sprintf("%s does not lie in zone %s", name, d.Zone))
		}
	}
	hostPort := func(key, text string) {
		if _, _, err := net.SplitHostPort(text); text != "" && err != nil {
			report(key, fmt.Sprintf("%q: want HOST:PORT", text))
		}
	}
	hostPort("dns.server", d.Server)
	for i, server := range d.Servers {
		hostPort(fmt.Sprintf("dns.servers[%d]", i), server)
	}
	if d.Key != "" {
		if err := zone.CheckName(d.Key); err != nil {
			report("dns.key", err.Error())
		}
	}
	if d.Algorithm != "" && !slices.Contains(zone.Algorithms(), d.Algorithm) {
		report("dns.algorithm", fmt.Sprintf("%q: want %s", d.Algorithm, strings.Join(zone.Algorithms(), ", ")))
	}
	if d.TTL != 0 && (d.TTL < leastTTL || d.TTL > mostTTL || d.TTL%time.Second != 0) {
		report("dns.ttl", fmt.Sprintf("%s: want whole seconds, %s to %s", d.TTL, leastTTL, mostTTL))
	}
}

// Open opens the zone, with the secret.
func (d DNS) Open(now func() time.Time) (*zone.Zone, error) {
	secret, err := zone.ReadSecret(d.SecretFile)
	if err != nil {
		return nil, err
	}
	return zone.New(zone.Config{
		Zone: d.Zone, Server: d.Server, Names: d.Names, Key: zone.Key{Name: d.Key, Algorithm: d.Algorithm, Secret: secret},
		TTL: d.TTL, Servers: d.Servers, Now: now,
	})
}
