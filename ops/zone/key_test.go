package zone

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/nameserver"

	"pgregory.net/rapid"
)

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct {
		text, want string
		mode       os.FileMode
	}{
		{"MDEyMzQ1Njc4OWFiY2RlZg==\n", "", 0o600},
		{"MDEyMzQ1Njc4OWFiY2RlZg==", "", 0o400},
		{"key \"k\" {\n\talgorithm hmac-sha256;\n\tsecret \"MDEyMzQ1Njc4OWFiY2RlZg==\";\n};\n", "", 0o600},
		{"# hmac-sha256:k:AAAA\nkey:\n  - id: k\n    algorithm: hmac-sha256\n    secret: MDEyMzQ1Njc4OWFiY2RlZg==\n", "", 0o600},
		{"MDEyMzQ1Njc4OWFiY2RlZg==", "others may read it (chmod 600)", 0o640},
		{"MDEyMzQ1Njc4OWFiY2RlZg==", "others may read it (chmod 600)", 0o604},
		{"hunter2!", "want base64", 0o600},
		{"", "want base64", 0o600},
	} {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(file)
		switch {
		case c.want == "" && (err != nil || string(got) != "0123456789abcdef"):
			t.Errorf("%d: %q, %v", i, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%d: %v", i, err)
		case err != nil && c.text != "" && strings.Contains(err.Error(), c.text):
			t.Errorf("%d: the error shows the secret: %v", i, err)
		}
	}
	if _, err := ReadSecret(filepath.Join(dir, "none")); err == nil {
		t.Error("there was no such file")
	}
	if testing.Short() {
		return // what follows asks the programs of two name servers
	}
	for _, kind := range nameserver.Kinds() {
		if err := nameserver.NewKey(kind, dir, "ocspctl", "made"); err != nil {
			t.Fatal(err)
		}
		if secret, err := ReadSecret(filepath.Join(dir, "made")); err != nil || len(secret) != 32 {
			t.Errorf("%s: %d octets, %v", kind, len(secret), err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config {
		return Config{Zone: "example.org", Server: "127.0.0.1:53", Names: []string{"ocsp.example.org"}, Key: Key{Name: "k", Secret: make([]byte, 32)}}
	}
	if z, err := New(good()); err != nil || z.Name() != "example.org." || z.Names()[0] != first || z.Server() != "127.0.0.1:53" {
		t.Errorf("%+v, %v", z, err)
	}
	for want, spoil := range map[string]func(*Config){
		"dns.zone: ":                             func(c *Config) { c.Zone = "" },
		"dns.names: there are none":              func(c *Config) { c.Names = nil },
		"does not lie in zone":                   func(c *Config) { c.Names = []string{"ocsp.example.net"} },
		`"*.example.org" is no name`:             func(c *Config) { c.Names = []string{"*.example.org"} },
		`"a b.example.org" is no name`:           func(c *Config) { c.Names = []string{"a b.example.org"} },
		"want HOST:PORT":                         func(c *Config) { c.Server = "ns1" },
		`"ns2": want HOST:PORT`:                  func(c *Config) { c.Servers = []string{"ns2"} },
		"dns.key: ":                              func(c *Config) { c.Key.Name = "" },
		"dns.algorithm: \"hmac-md5\": want hmac": func(c *Config) { c.Key.Algorithm = "hmac-md5" },
		"the secret has 15 octets":               func(c *Config) { c.Key.Secret = make([]byte, 15) },
	} {
		c := good()
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	secret := Key{Name: "k", Secret: []byte("do-not-show-this-secret")}
	if text := fmt.Sprintf("%v %+v %s %#v", secret, secret, secret, secret); strings.Contains(text, "show") || strings.Contains(text, "0x64") {
		t.Errorf("the secret is shown: %s", text)
	}
}

// Whatever a name has and whatever is asked for: what is left is what was, less what
// goes, more what comes; and nothing is left only by force.
func TestEditIsSetArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := addrs("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2")
		some := rapid.SliceOfDistinct(rapid.SampledFrom(pool), func(a netip.Addr) netip.Addr { return a })
		set := Set{Name: first}
		for _, a := range some.Draw(t, "has") {
			set.Records = append(set.Records, Record{Address: a, TTL: 60e9})
		}
		e := Edit{Add: some.Draw(t, "add"), Force: rapid.Bool().Draw(t, "force")}
		for _, a := range some.Draw(t, "remove") {
			if !slices.Contains(e.Add, a) {
				e.Remove = append(e.Remove, a)
			}
		}
		c, err := e.on(set)
		for _, a := range pool {
			want := slices.Contains(e.Add, a) || set.Has(a) && !slices.Contains(e.Remove, a)
			if slices.Contains(c.Left, a) != want || slices.Contains(c.Removed, a) != (set.Has(a) && !want) || slices.Contains(c.Added, a) != (!set.Has(a) && want) {
				t.Fatalf("%s: %+v", a, c)
			}
		}
		if refused := len(c.Left) == 0 && len(c.Removed) > 0 && !e.Force; (err != nil) != refused {
			t.Fatalf("%+v: %v", c, err)
		}
		if _, err := (&Zone{c: Config{Zone: "example.org.", TTL: DefaultTTL}}).message(set, c.Added, c.Removed).Pack(); err != nil {
			t.Fatal(err)
		}
	})
}
