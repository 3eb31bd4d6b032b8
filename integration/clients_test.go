package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// circumstance is something that a responder or its client may be in. The
// client's clock is put wrong by shifting all that the responder says: nobody's
// clock is touched, and the client cannot tell the difference.
type circumstance struct {
	name    string
	ahead   time.Duration // the client's clock, before all others'
	revoked bool          // the responder's certificate stands in the CRL
	lost    bool          // the CRL cannot be had
	life    func(now time.Time) (from, to time.Time)
}

func sevenDays(now time.Time) (from, to time.Time) {
	return now.Add(-time.Hour), now.Add(7 * 24 * time.Hour)
}

func beginsNow(now time.Time) (from, to time.Time) { return now, now.Add(7 * 24 * time.Hour) }

var circumstances = []circumstance{
	{name: "all is well", life: sevenDays},
	{name: "responder revoked", revoked: true, life: sevenDays},
	{name: "responder revoked, CRL lost", revoked: true, lost: true, life: sevenDays},
	{name: "responder expired a minute ago", life: func(now time.Time) (from, to time.Time) {
		return now.Add(-7 * 24 * time.Hour), now.Add(-time.Minute)
	}},
	{name: "notBefore = now", life: beginsNow},
	{name: "notBefore = now, client 1 min behind", ahead: -time.Minute, life: beginsNow},
	{name: "CRL lost", lost: true, life: sevenDays},
	{name: "client 1 min ahead", ahead: time.Minute, life: sevenDays},
	{name: "client 1 min behind", ahead: -time.Minute, life: sevenDays},
	{name: "client 6 min ahead", ahead: 6 * time.Minute, life: sevenDays},
	{name: "client 6 min behind", ahead: -6 * time.Minute, life: sevenDays},
	{name: "client 16 min ahead", ahead: 16 * time.Minute, life: sevenDays},
	{name: "client 16 min behind", ahead: -16 * time.Minute, life: sevenDays},
}

// measured are the clients in the order of the table's columns, each with how
// its version is found.
var measured = []struct {
	name    string
	version []string
	number  *regexp.Regexp // its group is the version
	ask     func(*lab, *testing.T, *trial) string
}{
	{"openssl ocsp", []string{"openssl", "version"}, regexp.MustCompile(`OpenSSL (\d+\.\d+)`), (*lab).openssl},
	{"openssl ocsp -crl_check", []string{"openssl", "version"}, regexp.MustCompile(`OpenSSL (\d+\.\d+)`), (*lab).opensslCRL},
	{"Java", []string{"java", "-version"}, regexp.MustCompile(`version "(\d+)`), (*lab).java},
	{"GnuTLS ocsptool", []string{"ocsptool", "--version"}, regexp.MustCompile(`ocsptool (\d+\.\d+)`), (*lab).ocsptool},
	{"NSS vfychain", []string{"dpkg-query", "-W", "-f", "NSS ${Version}\n", "libnss3-tools"}, regexp.MustCompile(`NSS (?:\d+:)?(\d+\.\d+)`), (*lab).vfychain},
	{"nginx", []string{"nginx", "-v"}, regexp.MustCompile(`nginx/(\d+\.\d+)`), (*lab).nginx},
}

// TestClientsInEveryCircumstance measures which client accepts which answer, and
// compares it with the table in docs/clients.md for clients of the versions
// that the page names. For any version: whatever a clock that is a minute wrong
// or a lost CRL may do, a client that does not look at CRLs takes the answer.
func TestClientsInEveryCircumstance(t *testing.T) {
	if testing.Short() {
		t.Skip("six foreign programs are not asked with -short")
	}
	l := newLab(t)
	page := contents(t, filepath.Join("..", "docs", "clients.md"))
	var table strings.Builder
	for _, profile := range []string{"revocable", "br"} {
		fmt.Fprintf(&table, "\n### Profile %s\n\n| circumstance |", profile)
		rule := "|---|"
		for _, client := range measured {
			fmt.Fprintf(&table, " %s |", client.name)
			rule += "---|"
		}
		table.WriteString("\n" + rule + "\n")
		for _, trial := range l.trials {
			if trial.profile != profile {
				continue
			}
			fmt.Fprintf(&table, "| %s |", trial.name)
			for _, client := range measured {
				fmt.Fprintf(&table, " %s |", l.said[client.name][trial])
			}
			table.WriteString("\n")
		}
	}
	for _, trial := range l.trials {
		for _, client := range measured {
			got := l.said[client.name][trial]
			if got != "good" && got != "refused" {
				t.Errorf("%s, profile %s, %s: it says %s", client.name, trial.profile, trial.name, got)
			}
			harmless := !trial.revoked && !(trial.lost && client.name == "openssl ocsp -crl_check") &&
				trial.ahead.Abs() <= time.Minute && trial.name != "responder expired a minute ago" && !strings.HasPrefix(trial.name, "notBefore")
			if harmless && got != "good" {
				t.Errorf("%s, profile %s, %s: it says %s", client.name, trial.profile, trial.name, got)
			}
		}
	}
	same := true
	var versions []string
	for _, client := range measured {
		out, _ := says(t, tool(t, client.version[0], "see .ci/deps"), client.version[1:]...)
		found := client.number.FindStringSubmatch(out)
		if found == nil {
			t.Fatalf("%s: no version in %q", client.name, out)
		}
		version := strings.TrimSuffix(client.name, " -crl_check") + " " + found[1]
		versions = append(versions, version)
		same = same && strings.Contains(page, "\n- "+version+"\n")
	}
	if same && !strings.Contains(page, table.String()) {
		t.Errorf("docs/clients.md has another table for these versions; measured:\n%s", table.String())
	}
	t.Logf("versions: %s; as in docs/clients.md: %v\n%s", strings.Join(versions, ", "), same, table.String())
}

// askAll has every client judge every trial; the clients work side by side.
func (l *lab) askAll(t *testing.T) {
	var mu sync.Mutex
	t.Run("clients", func(t *testing.T) {
		for _, client := range measured {
			t.Run(client.name, func(t *testing.T) {
				t.Parallel()
				answers := map[*trial]string{}
				for _, c := range l.trials {
					answers[c] = client.ask(l, t, c)
				}
				mu.Lock()
				defer mu.Unlock()
				l.said[client.name] = answers
			})
		}
	})
}

// accepted is good when a client took the answer as good, refused when it did
// not: a client that says revoked of a good certificate is neither.
func accepted(out string, good bool) string {
	if strings.Contains(strings.ToLower(out), "certificate status: revoked") || strings.Contains(out, ": revoked\n") {
		return "revoked: " + out
	}
	if good {
		return "good"
	}
	return "refused"
}

func (l *lab) openssl(t *testing.T, c *trial) string { return l.byOpenSSL(t, c, "-CAfile", l.root) }

func (l *lab) opensslCRL(t *testing.T, c *trial) string {
	trust := l.rootAndCRL
	if c.lost {
		trust = l.root
	}
	return l.byOpenSSL(t, c, "-crl_check", "-CAfile", trust)
}

func (l *lab) byOpenSSL(t *testing.T, c *trial, flags ...string) string {
	args := append([]string{"ocsp", "-no_nonce", "-issuer", l.ca, "-cert", c.leaf, "-url", c.url}, flags...)
	out, _ := says(t, "openssl", args...)
	return accepted(out, strings.Contains(out, "Response verify OK") && !strings.Contains(out, "WARNING") && strings.Contains(out, ": good\n"))
}

func (l *lab) ocsptool(t *testing.T, c *trial) string {
	out, _ := says(t, tool(t, "ocsptool", "gnutls-bin"), "--ask="+c.url, "--load-cert", c.leaf, "--load-issuer", l.ca, "--load-trust", l.ca, "--no-nonce")
	return accepted(out, strings.Contains(out, "Verifying OCSP Response: Success.") && strings.Contains(out, "Certificate Status: good"))
}

func (l *lab) vfychain(t *testing.T, c *trial) string {
	out, code := says(t, tool(t, "vfychain", "libnss3-tools"), "-d", l.nss, "-p", "-p", "-u", "1", "-g", "leaf", "-h", "requireFreshInfo", "-m", "ocsp", "-s", "failIfNoInfo", "-a", c.leaf)
	return accepted(out, code == 0 && strings.Contains(out, "Chain is good!"))
}

// java starts once for all trials: its start takes longer than they do.
func (l *lab) java(t *testing.T, c *trial) string {
	l.javaOnce.Do(func() {
		args := []string{"-Xshare:auto", filepath.Join("testdata", "Judge.java"), l.root, l.ca}
		for _, trial := range l.trials {
			args = append(args, trial.leaf)
		}
		l.javaSaid, _ = says(t, tool(t, "java", "openjdk-17-jdk-headless"), args...)
	})
	for line := range strings.Lines(l.javaSaid) {
		if rest, mine := strings.CutPrefix(line, c.leaf+" "); mine {
			return accepted(rest, rest == "good\n")
		}
	}
	return "nothing: " + l.javaSaid
}

// nginx staples what it accepts, and complains of the rest in its log.
func (l *lab) nginx(t *testing.T, c *trial) string {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		out, _ := says(t, "sh", "-c", `openssl s_client -unix "$1" -servername localhost -status -CAfile "$2" </dev/null`, "sh", c.tls, l.root)
		if strings.Contains(out, "Cert Status: good") {
			return "good"
		}
		log, err := os.ReadFile(l.nginxLog)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, `certificate: "`+c.leaf+`"`) && strings.Contains(line, "[error]") {
				return "refused"
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "neither stapled nor complained of within a minute"
}
