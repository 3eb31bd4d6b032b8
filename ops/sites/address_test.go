package sites

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/catest"
	"ocspfleet/integration/testkit/nameserver"
	"ocspfleet/ops/issuance"
	"ocspfleet/ops/zone"

	"golang.org/x/crypto/ocsp"
)

const (
	ocspName  = "ocsp.example.org."
	ocsp6Name = "ocsp6.example.org."
)

// named is a master whose sites stand in a real zone: site-a at 127.0.0.1 and
// 2001:db8::a, of which only the first is there; site-b at 192.0.2.2.
type named struct {
	*testing.T
	store   *masterdb.DB
	primary *nameserver.Primary
	dns     DNS
	a       *issuance.Authority
	silent  atomic.Bool // site-a gives no good answer
	b       *httptest.Server
}

func newNamed(t *testing.T, kind nameserver.Kind) *named {
	t.Helper()
	if testing.Short() {
		t.Skip("asks a name server")
	}
	n := &named{T: t, store: catest.Master(t).Master, a: newCA(t, p256(), db.ProfileRevocable)}
	catest.Register(t, n.store, &n.a.Issuer)
	page := "$ORIGIN example.org.\n$TTL 3600\n@ SOA ns1 hostmaster 1 3600 600 604800 60\n@ NS ns1\nns1 A 127.0.0.1\n"
	var err error
	if n.primary, err = nameserver.StartPrimary(t.Context(), kind, "../../docs/dns.md", page, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.primary.Stop)
	n.dns = DNS{Zone: n.zone(func(*zone.Config) {}), Now: func() time.Time { return now }}
	key, c := enrol(t, n.store, n.a, "site-a", "http://127.0.0.1:1/")
	server := responder(t, n.a, key, c, func(r *ocsp.Response) {
		if n.silent.Load() {
			r.Status = ocsp.Unknown
		}
	})
	n.at("site-a", strings.Replace(server.URL, "127.0.0.1", "site-a.example", 1), "127.0.0.1", "2001:db8::a")
	key, c = enrol(t, n.store, n.a, "site-b", "http://127.0.0.1:1/")
	n.b = responder(t, n.a, key, c, nil)
	n.at("site-b", n.b.URL, "192.0.2.2")
	n.set(ocspName, "127.0.0.1", "2001:db8::a", "192.0.2.2")
	n.set(ocsp6Name, "2001:db8::a", "2001:db8::77")
	return n
}

func (n *named) zone(change func(*zone.Config)) *zone.Zone {
	n.Helper()
	c := zone.Config{
		Zone: nameserver.Zone, Server: n.primary.Address, Servers: []string{n.primary.Address}, Names: []string{ocspName, ocsp6Name},
		Key: zone.Key{Name: nameserver.KeyName, Secret: must(zone.ReadSecret(n.primary.KeyFile))}, Timeout: 5 * time.Second,
	}
	change(&c)
	return must(zone.New(c))
}

func (n *named) at(site, url string, addresses ...string) {
	n.Helper()
	if _, err := n.store.AddResponder(n.Context(), site, url, addresses, act); err != nil {
		n.Fatal(err)
	}
}

func (n *named) set(name string, addresses ...string) {
	n.Helper()
	if err := n.primary.Set(n.Context(), name, addresses...); err != nil {
		n.Fatal(err)
	}
}

func (n *named) want(name string, addresses ...string) {
	n.Helper()
	slices.Sort(addresses)
	if got, err := n.primary.Seen(n.Context(), name); err != nil || !slices.Equal(got, addresses) {
		n.Errorf("%s has %v, want %v (%v)", name, got, addresses, err)
	}
}

// do runs steps and returns what they say by name.
func (n *named) do(dns DNS, site string, steps func(Lifecycle) []Step) (map[string]Step, error) {
	n.Helper()
	run := Lifecycle{Store: n.store, Site: site, Act: act, DNS: dns, CRL: func(context.Context) (string, error) { return "issued", nil }}
	list := steps(run)
	err := run.Run(n.Context(), list, func(Step) {})
	told := map[string]Step{}
	for _, s := range list {
		told[s.Name] = s
	}
	return told, err
}

func revoke(w Lifecycle) []Step { return w.Revoke(db.ReasonKeyCompromise) }

// audited lists what the audit says of the DNS.
func (n *named) audited() []string {
	n.Helper()
	var lines []string
	if err := n.store.AuditEntries(n.Context(), masterdb.AuditFilter{Act: "responder dns"}, func(e auditchain.Entry) error {
		lines = append(lines, e.What)
		return nil
	}); err != nil {
		n.Fatal(err)
	}
	return lines
}

// A suspended site's addresses go, those of others stay; restored, just those come
// back that were taken, and only when it answers by them.
func TestSuspendedSiteLeavesTheDNSAndComesBack(t *testing.T) {
	for _, kind := range nameserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			n := newNamed(t, kind)
			for range 2 { // again: nothing is left to do
				told, err := n.do(n.dns, "site-a", Lifecycle.Suspend)
				if err != nil || told["crl"].Result != "issued" {
					t.Fatalf("%+v, %v", told, err)
				}
				t.Log(told["dns"].Result)
				n.want(ocspName, "192.0.2.2")
				n.want(ocsp6Name, "2001:db8::77")
			}
			// It answers at one of its addresses; at the other there is nobody.
			short := n.dns
			short.AnswerPatience = 300 * time.Millisecond
			n.silent.Store(true)
			if told, err := n.do(short, "site-a", Lifecycle.Restore); err == nil || !strings.Contains(told["dns"].Fault, "the site says unknown where the master says good, so it is not published") {
				t.Errorf("%+v, %v", told["dns"], err)
			}
			n.want(ocspName, "192.0.2.2")
			n.silent.Store(false)
			n.at("site-a", n.url("site-a"), "127.0.0.1") // the other one is down for good
			told, err := n.do(n.dns, "site-a", Lifecycle.Restore)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(told["dns"].Result)
			n.want(ocspName, "192.0.2.2", "127.0.0.1")
			n.want(ocsp6Name, "2001:db8::77")
			n.at("site-a", n.url("site-a"), "127.0.0.1", "2001:db8::a")
			forced := n.dns
			forced.Force = true
			if _, err := n.do(forced, "site-a", Lifecycle.Restore); err != nil {
				t.Fatal(err)
			}
			n.want(ocspName, "192.0.2.2", "127.0.0.1", "2001:db8::a")
			n.want(ocsp6Name, "2001:db8::77", "2001:db8::a")
			if left := must(n.store.Withdrawn(t.Context(), "site-a")); len(left) != 0 {
				t.Errorf("still to put back: %v", left)
			}
			lines := n.audited()
			if len(lines) != 10 { // 2 names withdrawn, 1 and then 2 published: each with begin and done
				t.Errorf("%d entries: %q", len(lines), lines)
			}
		})
	}
}

func (n *named) url(site string) string {
	n.Helper()
	for _, r := range must(n.store.Responders(n.Context())) {
		if r.Name == site {
			return r.URL
		}
	}
	n.Fatalf("no site %s", site)
	return ""
}

// What the DNS refuses stops nothing else, is said with the fix, and is done by the
// next run, which knows from the first what to put back.
func TestFailingDNSStopsNoOtherStep(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Bind)
	wrong := n.dns
	wrong.Zone = n.zone(func(c *zone.Config) { c.Key.Secret = make([]byte, 32) })
	told, err := n.do(wrong, "site-a", revoke)
	if err == nil || !strings.Contains(err.Error(), "step 6 of 7 (dns): ") || !strings.Contains(err.Error(), "BADSIG") || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("%v", err)
	}
	if told["crl"].Result != "issued" || told["certificates"].Result != "1 of 1 revoked" || told["dns"].Fault == "" {
		t.Errorf("%+v", told)
	}
	n.want(ocspName, "127.0.0.1", "2001:db8::a", "192.0.2.2")
	down := n.dns
	down.Zone = n.zone(func(c *zone.Config) { c.Server = "127.0.0.1:1" })
	if _, err := n.do(down, "site-a", revoke); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	lagging := n.dns
	lagging.SpreadPatience = 300 * time.Millisecond
	lagging.Zone = n.zone(func(c *zone.Config) { c.Servers = []string{n.primary.Address, "127.0.0.1:1"} })
	told, err = n.do(lagging, "site-a", revoke)
	if err == nil || !strings.Contains(err.Error(), "the primary has the change, server 127.0.0.1:1 does not show it") || !strings.Contains(told["dns"].Result, "withdrawn 127.0.0.1") {
		t.Errorf("%+v, %v", told["dns"], err)
	}
	n.want(ocspName, "192.0.2.2")
	if told, err := n.do(n.dns, "site-a", revoke); err != nil || !strings.Contains(told["dns"].Result, "none of them is there") {
		t.Errorf("%+v, %v", told["dns"], err)
	}
	if lines := n.audited(); !strings.Contains(strings.Join(lines, "\n"), "failed") {
		t.Errorf("%q", lines)
	}
}

// Broken off between the zone's change and the note of it: the next run has nothing to
// do, and what was taken is known all the same.
func TestBrokenOffAfterTheChange(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Knot)
	n.at("site-a", n.url("site-a"), "127.0.0.1")
	if err := n.store.NoteDNS(t.Context(), masterdb.DNSNote{Site: "site-a", Name: ocspName, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Stage: masterdb.DNSBegin}, act); err != nil {
		t.Fatal(err)
	}
	n.set(ocspName, "2001:db8::a", "192.0.2.2")
	if _, err := n.do(n.dns, "site-a", Lifecycle.Suspend); err != nil {
		t.Fatal(err)
	}
	n.want(ocspName, "2001:db8::a", "192.0.2.2")
	if _, err := n.do(n.dns, "site-a", Lifecycle.Restore); err != nil {
		t.Fatal(err)
	}
	n.want(ocspName, "2001:db8::a", "192.0.2.2", "127.0.0.1")
	if left := must(n.store.Withdrawn(t.Context(), "site-a")); len(left) != 0 {
		t.Errorf("still to put back: %v", left)
	}
	if _, err := n.do(n.dns, "site-a", Lifecycle.Restore); err != nil { // again: nothing to do
		t.Error(err)
	}
}

// No name is left empty, or with nobody that answers; but by force.
func TestLastAddressStays(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Knot)
	n.set(ocsp6Name, "2001:db8::a")
	n.b.Close() // site-b does not answer
	_, err := n.do(n.dns, "site-a", Lifecycle.Suspend)
	if !errors.Is(err, zone.ErrLast) || !errors.Is(err, ErrLastSite) || !strings.Contains(err.Error(), "192.0.2.2 would be left") {
		t.Errorf("%v", err)
	}
	n.want(ocspName, "127.0.0.1", "2001:db8::a", "192.0.2.2")
	n.want(ocsp6Name, "2001:db8::a")
	forced := n.dns
	forced.Force = true
	if _, err := n.do(forced, "site-a", Lifecycle.Suspend); err != nil {
		t.Error(err)
	}
	n.want(ocspName, "192.0.2.2")
	n.want(ocsp6Name)
}

// An address that another active site has, too, is not that site's to lose.
func TestSharedAddressStays(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Bind)
	n.at("site-b", n.url("site-b"), "192.0.2.2", "::ffff:127.0.0.1")
	told, err := n.do(n.dns, "site-a", revoke)
	if err != nil || !strings.Contains(told["dns"].Result, "127.0.0.1 is site-b's, too, and stays") {
		t.Errorf("%+v, %v", told["dns"], err)
	}
	n.want(ocspName, "127.0.0.1", "192.0.2.2")
}

// Without a zone, or dry, the addresses are named for work by hand; a plan says what
// would be done, and why not.
func TestPlannedAndByHand(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Knot)
	preview := func(dns DNS, publish bool) string {
		t.Helper()
		w, err := Lifecycle{Store: n.store, Site: "site-a", DNS: dns}.Preview(t.Context(), publish)
		if err != nil {
			t.Fatal(err)
		}
		steps := w.Suspend()
		return steps[slices.IndexFunc(steps, func(s Step) bool { return s.Name == "dns" })].Plan
	}
	dry, wrong := n.dns, n.dns
	dry.Dry, wrong.Zone = true, n.zone(func(c *zone.Config) { c.Server = "127.0.0.1:1" })
	want := "ocsp.example.org.: withdraw 127.0.0.1, 2001:db8::a (left: 192.0.2.2); ocsp6.example.org.: withdraw 2001:db8::a (left: 2001:db8::77)"
	for got, want := range map[string]string{
		preview(DNS{}, false): "withdraw its addresses: by hand: withdraw 127.0.0.1, 2001:db8::a in the zone",
		preview(n.dns, false): "withdraw its addresses: " + want,
		preview(n.dns, true):  "withdraw its addresses: ocsp.example.org.: nothing to publish; ocsp6.example.org.: nothing to publish",
		preview(wrong, false): "connection refused",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("plan %q, want %q", got, want)
		}
	}
	if told, err := n.do(dry, "site-a", Lifecycle.Suspend); err != nil || told["dns"].Result != "by hand (dns.dry): "+want {
		t.Errorf("%+v, %v", told["dns"], err)
	}
	if told, err := n.do(DNS{}, "site-a", Lifecycle.Restore); err != nil || told["dns"].Result != "by hand: publish 127.0.0.1, 2001:db8::a in the zone" {
		t.Errorf("%+v, %v", told["dns"], err)
	}
	n.want(ocspName, "127.0.0.1", "2001:db8::a", "192.0.2.2")
	if lines := n.audited(); len(lines) != 0 {
		t.Errorf("%q", lines)
	}
}
