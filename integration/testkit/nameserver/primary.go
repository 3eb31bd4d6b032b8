package nameserver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Primary is a primary of example.org as docs/dns.md has one configured: names ocsp and
// ocsp6 may be changed by key ocspctl.
type Primary struct {
	*Server
	KeyFile string // as the server's own program made it
}

// KeyName and the rest are what the samples of docs/dns.md say.
const (
	KeyName = "ocspctl"
	Zone    = "example.org"
)

// StartPrimary starts one with the sample of the page (docs/dns.md), after change has
// had it (nil: as it is), and a zone of this text. Ends with Stop.
func StartPrimary(ctx context.Context, kind Kind, page, zone string, change func(config string) string) (*Primary, error) {
	dir, err := Folder()
	if err != nil {
		return nil, err
	}
	p := &Primary{KeyFile: filepath.Join(dir, "ocspctl.key")}
	err = func() error {
		if err := NewKey(kind, dir, KeyName, "ocspctl.key"); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, Zone+".zone"), []byte(zone), 0o600); err != nil {
			return err
		}
		config, err := sample(kind, page, dir)
		if err != nil {
			return err
		}
		if change != nil {
			config = change(config)
		}
		p.Server, err = Start(ctx, kind, dir, config)
		return err
	}()
	if err != nil {
		_ = os.RemoveAll(dir) // the first error says more
		return nil, fmt.Errorf("starting a primary: %w", err)
	}
	return p, nil
}

// sample is the block of a page for a server, in the server's folder.
func sample(kind Kind, page, dir string) (string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile("(?ms)^```"+string(kind)+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
	if len(found) != 1 {
		return "", fmt.Errorf("%s has %d samples for %s", page, len(found), kind)
	}
	return regexp.MustCompile(`/(etc|var/lib)/(bind|knot)/`).ReplaceAllString(found[0][1], dir+"/"), nil
}

var secretLine = regexp.MustCompile(`secret:?\s+"?([A-Za-z0-9+/=]+)`)

// Set has bind9's nsupdate make a name's addresses just these, of TTL 120 s.
func (p *Primary) Set(ctx context.Context, name string, addresses ...string) error {
	host, port, _ := strings.Cut(p.Address, ":")
	lines := []string{"server " + host + " " + port, "zone " + Zone, "update delete " + name + " A", "update delete " + name + " AAAA"}
	for _, text := range addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		kind := "AAAA"
		if a.Is4() {
			kind = "A"
		}
		lines = append(lines, fmt.Sprintf("update add %s 120 %s %s", name, kind, a))
	}
	made, err := os.ReadFile(p.KeyFile)
	if err != nil {
		return err
	}
	// nsupdate reads bind9's form alone.
	key := fmt.Sprintf("key %q { algorithm hmac-sha256; secret %q; };\n", KeyName, secretLine.FindStringSubmatch(string(made))[1])
	file := filepath.Join(p.Dir, "nsupdate.key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "nsupdate", "-k", file)
	cmd.Stdin = strings.NewReader(strings.Join(append(lines, "send", "quit"), "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nsupdate (apt install bind9-dnsutils): %w: %s", err, out)
	}
	return nil
}

// Seen is what bind9's dig sees of a name: its addresses, sorted as texts.
func (p *Primary) Seen(ctx context.Context, name string) ([]string, error) {
	host, port, _ := strings.Cut(p.Address, ":")
	out, err := exec.CommandContext(ctx, "dig", "+short", "+norecurse", "@"+host, "-p", port, name, "A", name, "AAAA").Output()
	if err != nil {
		return nil, fmt.Errorf("dig (apt install bind9-dnsutils): %w: %s", err, out)
	}
	found := strings.Fields(string(out))
	slices.Sort(found)
	return found, nil
}
