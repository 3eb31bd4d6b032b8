package settings

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"ocspfleet/ops/config"
	"ocspfleet/ops/zone"
)

// The limits of ttl: shorter ones burden the zone's servers for nothing, longer ones keep a site
// with an attacker among the clients.
const (
	leastTTL = 30 * time.Second
	mostTTL  = time.Hour
)

func checkDNS(d config.DNS, report func(key, problem string)) {
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

// OpenZone opens the zone, with the secret.
func OpenZone(d config.DNS, now func() time.Time) (*zone.Zone, error) {
	secret, err := zone.ReadSecret(d.SecretFile)
	if err != nil {
		return nil, err
	}
	return zone.New(zone.Config{
		Zone: d.Zone, Server: d.Server, Names: d.Names, Key: zone.Key{Name: d.Key, Algorithm: d.Algorithm, Secret: secret},
		TTL: d.TTL, Servers: d.Servers, Now: now,
	})
}
