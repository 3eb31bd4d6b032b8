package zone

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/ops/zone/nameserver"
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

// sample returns what docs/dns.md tells to add to a server's configuration, with the
// folder of this one.
func sample(t testing.TB, kind nameserver.Kind, dir string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```"+string(kind)+"\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(found) != 1 {
		t.Fatalf("docs/dns.md has %d samples for %s", len(found), kind)
	}
	return regexp.MustCompile(`/(etc|var/lib)/(bind|knot)/`).ReplaceAllString(found[0][1], dir+"/")
}

// primary is a running primary of example.org.
type primary struct {
	*nameserver.Server
	keyFile string
}

// startPrimaryThatTransfers lets anybody on this machine transfer the zone.
func startPrimaryThatTransfers(t testing.TB) *primary {
	t.Helper()
	return startPrimaryWith(t, nameserver.Knot, func(config string) string {
		config = strings.Replace(config, "acl:\n", "acl:\n  - id: transfer\n    address: 127.0.0.1\n    action: transfer\n\n", 1)
		return strings.Replace(config, "acl: [ocspctl]", "acl: [transfer, ocspctl]", 1)
	})
}

func startPrimary(t testing.TB, kind nameserver.Kind) *primary {
	t.Helper()
	return startPrimaryWith(t, kind, func(config string) string { return config })
}

func startPrimaryWith(t testing.TB, kind nameserver.Kind, change func(string) string) *primary {
	t.Helper()
	dir, err := nameserver.Folder()
	if err != nil {
		t.Fatal(err)
	}
	if err := nameserver.NewKey(kind, dir, "ocspctl", "ocspctl.key"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "example.org.zone"), []byte(zoneFile), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := nameserver.Start(t.Context(), kind, dir, change(sample(t, kind, dir)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", kind, s.Log())
		}
		s.Stop()
	})
	return &primary{s, filepath.Join(dir, "ocspctl.key")}
}

// config is that of a desk at the primary.
func (p *primary) config(t testing.TB) Config {
	t.Helper()
	secret, err := ReadSecret(p.keyFile)
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

// set has foreign eyes, bind9's nsupdate, make a name's addresses just these, of TTL 120 s.
func (p *primary) set(t testing.TB, name string, addresses ...string) {
	t.Helper()
	host, port, _ := strings.Cut(p.Address, ":")
	lines := []string{"server " + host + " " + port, "zone example.org", "update delete " + name + " A", "update delete " + name + " AAAA"}
	for _, a := range addresses {
		lines = append(lines, "update add "+name+" 120 "+kindOf(a)+" "+a)
	}
	key := p.keyFile
	if p.Kind == nameserver.Knot { // nsupdate reads bind9's form alone
		secret, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		key = filepath.Join(t.TempDir(), "key")
		text := "key \"ocspctl\" { algorithm hmac-sha256; secret \"" + secretLine.FindStringSubmatch(string(secret))[1] + "\"; };"
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "nsupdate", "-k", key)
	cmd.Stdin = strings.NewReader(strings.Join(append(lines, "send", "quit"), "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nsupdate: %v: %s", err, out)
	}
}

func kindOf(address string) string {
	if netip.MustParseAddr(address).Is4() {
		return "A"
	}
	return "AAAA"
}

// seen is what foreign eyes, bind9's dig, see of a name: its sorted addresses.
func (p *primary) seen(t testing.TB, name string) []string {
	t.Helper()
	host, port, _ := strings.Cut(p.Address, ":")
	out, err := exec.CommandContext(t.Context(), "dig", "+short", "+norecurse", "@"+host, "-p", port, name, "A", name, "AAAA").Output()
	if err != nil {
		t.Fatalf("dig: %v: %s", err, out)
	}
	found := strings.Fields(string(out))
	slices.Sort(found)
	return found
}

func (p *primary) want(t testing.TB, name string, addresses ...string) {
	t.Helper()
	slices.Sort(addresses)
	if got := p.seen(t, name); !slices.Equal(got, addresses) {
		t.Errorf("%s has %v, want %v", name, got, addresses)
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
