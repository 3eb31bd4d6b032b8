package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"
	"ocspfleet/integration/testkit/nameserver"
)

// ocspHost is the name that clients ask in the zone of these tests.
const ocspHost = "ocsp.example.org"

// inDNS is a real name server with the sites' addresses: 127.0.0.2 stands for site-a,
// 127.0.0.1, where it really answers, for site-b.
type inDNS struct {
	*testing.T
	primary *nameserver.Primary
}

// named puts the fleet's sites into a real zone, and the zone into the staff's
// configuration.
func (s *identities) named() *inDNS {
	s.Helper()
	p, err := nameserver.StartPrimary(s.Context(), nameserver.Knot, "../docs/dns.md",
		"$ORIGIN example.org.\n$TTL 3600\n@ SOA ns1 hostmaster 1 3600 600 604800 60\n@ NS ns1\nns1 A 127.0.0.1\n", nil)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(p.Stop)
	config, err := os.OpenFile(s.f.Path(s.f.OcspctlConfig), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.Fatal(err)
	}
	_, err = fmt.Fprintf(config, "dns: {zone: example.org, server: %[1]q, names: [%[2]s], key: ocspctl, secret_file: %[3]q, servers: [%[1]q]}\n", p.Address, ocspHost, p.KeyFile)
	if closed := config.Close(); err != nil || closed != nil {
		s.Fatal(err, closed)
	}
	for i, address := range []string{"127.0.0.2", "127.0.0.1"} {
		site, csr := s.f.Sites[i], filepath.Join(s.TempDir(), "again.csr")
		out, err := exec.CommandContext(s.Context(), s.f.Path(s.f.Ocspctl), "--config", s.f.Path(filepath.Join(site.ConfigDir, "ocspctl.yaml")),
			"key", "csr", site.Name, "--label", newestLabel(s, site), "--out", csr).CombinedOutput()
		if err != nil {
			s.Fatalf("%v\n%s", err, out)
		}
		s.ctl("responder", "add", site.Name, "--csr", csr, "--url", site.URL, "--address", address, "--apply")
	}
	d := &inDNS{s.T, p}
	if err := p.Set(s.Context(), ocspHost, "127.0.0.1", "127.0.0.2"); err != nil {
		s.Fatal(err)
	}
	s.ctl("dns", "check")
	return d
}

// newestLabel is that of a key that the site's token holds.
func newestLabel(s *identities, site devfleet.Site) string {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), s.f.Path(s.f.Ocspctl), "--config", s.f.Path(filepath.Join(site.ConfigDir, "ocspctl.yaml")),
		"key", "list", "--output", "json").Output()
	var seen struct{ Keys []struct{ Label string } }
	if err == nil {
		err = json.Unmarshal(out, &seen)
	}
	if err != nil || len(seen.Keys) == 0 {
		s.Fatalf("the keys of %s: %v\n%s", site.Name, err, out)
	}
	if slices.ContainsFunc(seen.Keys, func(k struct{ Label string }) bool { return k.Label == "next" }) {
		return "next" // keyRollover's
	}
	return seen.Keys[0].Label
}

func (d *inDNS) want(addresses ...string) {
	d.Helper()
	if got, err := d.primary.Seen(d.Context(), ocspHost); err != nil || !slices.Equal(got, addresses) {
		d.Errorf("%s has %v, want %v (%v)", ocspHost, got, addresses, err)
	}
}

// brokenOff starts responder revoke for site-b while the name server hangs, and kills
// it in the middle of its steps: the site is revoked, and its address still there.
func (s *identities) brokenOff(d *inDNS) {
	s.Helper()
	if err := d.primary.Signal(syscall.SIGSTOP); err != nil {
		s.Fatal(err)
	}
	name := s.f.Sites[1].Name
	cmd := exec.Command(s.f.Path(s.f.Ocspctl), "--config", s.f.Path(s.f.OcspctlConfig), "responder", "revoke", name,
		"--reason", "keyCompromise", "--why", "broken into", "--apply")
	cmd.Dir = s.f.Root()
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(s.ctl("audit", "list", "--act", "responder revoke"), "responder revoke"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Error("the revocation never began")
			break
		}
	}
	_ = cmd.Process.Kill() // on a slow machine it may have come to its end
	_ = cmd.Wait()
	if err := d.primary.Signal(syscall.SIGCONT); err != nil {
		s.Fatal(err)
	}
	d.want("127.0.0.1", "127.0.0.2")
	out, err := s.f.Ctl(s.Context(), "dns", "check")
	if err == nil || !strings.Contains(err.Error()+out, "127.0.0.1 site "+name+" is revoked (ocspctl responder revoke "+name+" --reason NAME --apply withdraws it)") {
		s.Errorf("dns check: %v\n%s", err, out)
	}
}

// leftTheDNS looks at what the finished revocation left behind.
func (s *identities) leftTheDNS(d *inDNS) {
	s.Helper()
	d.want("127.0.0.2")
	s.ctl("dns", "check")
	audit := s.ctl("audit", "list", "--act", "responder dns", "--output", "json")
	for _, want := range []string{"begin", "done", "withdraw", "publish", "127.0.0.1"} {
		if !strings.Contains(audit, want) {
			s.Errorf("the audit of the DNS does not say %q:\n%s", want, audit)
		}
	}
	if strings.Contains(audit, "127.0.0.2\"]") {
		s.Errorf("another site's address was touched:\n%s", audit)
	}
}
