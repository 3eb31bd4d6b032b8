package zone

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/integration/testkit/nameserver"
)

// zoneFile has what the tests meet beside the two names that they change.
const zoneFile = `$ORIGIN example.org.
$TTL 3600
@     SOA ns1 hostmaster 1 1 1 604800 60
@     NS  ns1
ns1   A   127.0.0.1
www   A   192.0.2.80
alias CNAME www
below NS  ns.elsewhere.example.
*.wild A  192.0.2.99
`

// primary is a running primary of example.org.
type primary struct{ *nameserver.Primary }

func startPrimary(t testing.TB, kind nameserver.Kind) *primary {
	t.Helper()
	return startPrimaryWith(t, kind, nil)
}

// startPrimaryThatTransfers lets anybody on this machine transfer the zone.
func startPrimaryThatTransfers(t testing.TB) *primary {
	t.Helper()
	return startPrimaryWith(t, nameserver.Knot, func(config string) string {
		config = strings.Replace(config, "acl:\n", "acl:\n  - id: transfer\n    address: 127.0.0.1\n    action: transfer\n\n", 1)
		return strings.Replace(config, "acl: [ocspctl]", "acl: [transfer, ocspctl]", 1)
	})
}

func startPrimaryWith(t testing.TB, kind nameserver.Kind, change func(string) string) *primary {
	t.Helper()
	if testing.Short() {
		t.Skip("asks a name server")
	}
	p, err := nameserver.StartPrimary(t.Context(), kind, "../../docs/dns.md", zoneFile, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", kind, p.Log())
		}
		p.Stop()
	})
	return &primary{p}
}

// config is that of a desk at the primary.
func (p *primary) config(t testing.TB) Config {
	t.Helper()
	secret, err := ReadSecret(p.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Zone: "example.org", Server: p.Address, Names: []string{"ocsp.example.org", "ocsp6.example.org."}, Servers: []string{p.Address},
		Key: Key{Name: "ocspctl", Secret: secret}, Timeout: 5 * time.Second,
	}
}

func open(t testing.TB, c Config) *Zone {
	t.Helper()
	z, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func (p *primary) set(t testing.TB, name string, addresses ...string) {
	t.Helper()
	if err := p.Set(t.Context(), name, addresses...); err != nil {
		t.Fatal(err)
	}
}

func (p *primary) want(t testing.TB, name string, addresses ...string) {
	t.Helper()
	slices.Sort(addresses)
	if got, err := p.Seen(t.Context(), name); err != nil || !slices.Equal(got, addresses) {
		t.Errorf("%s has %v, want %v (%v)", name, got, addresses, err)
	}
}

func addrs(texts ...string) []netip.Addr {
	list := make([]netip.Addr, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParseAddr(text)
	}
	return list
}

func remove(texts ...string) Edit { return Edit{Remove: addrs(texts...)} }
func add(texts ...string) Edit    { return Edit{Add: addrs(texts...)} }

// apply does an edit that nobody objects to.
func apply(z *Zone, ctx context.Context, name string, e Edit) (Change, error) {
	return z.Apply(ctx, name, e, func(Change) error { return nil })
}

// eachServer runs a test at both real servers, beside each other.
func eachServer(t *testing.T, do func(t *testing.T, p *primary)) {
	for _, kind := range nameserver.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			do(t, startPrimary(t, kind))
		})
	}
}

// recorder keeps what a callback is told.
type recorder[T any] struct {
	sync.Mutex
	all []T
}

func (r *recorder[T]) told(v T) {
	r.Lock()
	defer r.Unlock()
	r.all = append(r.all, v)
}
