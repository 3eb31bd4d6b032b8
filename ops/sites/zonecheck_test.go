package sites

import (
	"slices"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/nameserver"
	"ocspfleet/ops/zone"
)

// The zone is compared with the roster, address by address.
func TestZoneBesideTheRoster(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Knot)
	faults := func(z *zone.Zone) []string {
		t.Helper()
		v, err := ViewZone(t.Context(), n.store, z, true)
		if err != nil {
			t.Fatal(err)
		}
		return v.Faults()
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%d faults: %q", len(got), got)
		}
		for _, w := range want {
			if !slices.ContainsFunc(got, func(g string) bool { return strings.Contains(g, w) }) {
				t.Errorf("no fault %q in %q", w, got)
			}
		}
	}
	want(faults(n.dns.Zone), "ocsp6.example.org.: 2001:db8::77 is no site's by the roster")
	n.at("site-c", "http://c.example/", "192.0.2.3", "2001:db8::77") // ocsp6 has no IPv4
	want(faults(n.dns.Zone), "ocsp.example.org.: 192.0.2.3 of site site-c is not there (ocspctl responder restore site-c --apply)",
		"ocsp.example.org.: 2001:db8::77 of site site-c is not there")
	if _, err := n.do(DNS{}, "site-b", Lifecycle.Suspend); err != nil {
		t.Fatal(err)
	}
	n.set(ocspName, "127.0.0.1", "2001:db8::a", "192.0.2.2", "192.0.2.3", "2001:db8::77")
	want(faults(n.dns.Zone), "192.0.2.2 site site-b is suspended (ocspctl responder suspend site-b --apply withdraws it)")
	if _, err := n.do(DNS{}, "site-b", revoke); err != nil {
		t.Fatal(err)
	}
	want(faults(n.dns.Zone), "192.0.2.2 site site-b is revoked (ocspctl responder revoke site-b --reason NAME --apply withdraws it)")
	n.set(ocspName, "127.0.0.1", "2001:db8::a", "192.0.2.3", "2001:db8::77")
	want(faults(n.dns.Zone))
	want(faults(n.zone(func(c *zone.Config) { c.Key.Secret = make([]byte, 32) })), "ocsp.example.org.: confirming", "ocsp6.example.org.: confirming")
	want(faults(n.zone(func(c *zone.Config) { c.Servers = append(c.Servers, "127.0.0.1:1") })), "server 127.0.0.1:1: reading the serial")
	n.at("site-d", "http://d.example/", []string{}...)
	want(faults(n.dns.Zone), "site site-d has no address on the roster (ocspctl responder set site-d --address")
	n.at("site-d", "http://d.example/", "192.0.2.3")
	n.set(ocsp6Name)
	want(faults(n.dns.Zone), "ocsp6.example.org.: it has no address", "127.0.0.1", "2001:db8::a", "192.0.2.3 of site site-c", "2001:db8::77", "192.0.2.3 of site site-d")
	if _, err := ViewZone(t.Context(), n.store, n.zone(func(c *zone.Config) { c.Server = "127.0.0.1:1" }), false); err == nil {
		t.Error("nobody listens there")
	}
}
