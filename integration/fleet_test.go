package integration

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/devfleet"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ocsp"
)

// described is what fleet.json promises, written down a second time.
const described = `{
"master": {"dsn": "", "superuser_dsn": "", "feed_url": "", "pids": {"postgres": 0, "ocspsyncd": 0}},
"sites": [{"name": "", "url": "", "admin_url": "", "dsn": "", "superuser_dsn": "", "sync": "",
  "pids": {"postgres": 0, "ocspd": 0, "ocspsyncd": 0},
  "token": {"uri": "", "module": "", "softhsm2_conf": ""}, "config_dir": ""}],
"issuers": [{"name": "", "certificate": "", "chain": [""], "trust_anchors": [""],
  "policy": {"never_issued": "", "profile": "", "validity": ""},
  "serials": {"good": [""], "revoked": [{"serial": "", "revoked_at": "", "reason": ""}], "never_issued": [""]},
  "leaf": {"good": {"certificate": "", "key": "", "host": ""}, "revoked": {"certificate": "", "key": ""}}}],
"ocspctl": "", "ocspctl_config": "", "approver_config": "", "correct_key": ""}`

// shape reduces JSON to its keys: of a list the first element, of a value its kind.
func shape(v any) any {
	switch v := v.(type) {
	case map[string]any:
		keys := map[string]any{}
		for name, value := range v {
			keys[name] = shape(value)
		}
		return keys
	case []any:
		return []any{shape(v[0])}
	case float64:
		return "number"
	default:
		return "text"
	}
}

func TestFleetJSONKeepsItsContract(t *testing.T) {
	f := shared(t)
	raw, err := os.ReadFile(filepath.Join(f.Dir(), "fleet.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(described), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shape(want), shape(got)); diff != "" {
		t.Errorf("keys of fleet.json (-want +got):\n%s", diff)
	}
	if f.Issuers[0].Name != "rsa" || f.Issuers[1].Name != "ecdsa" {
		t.Errorf("issuers are %s and %s", f.Issuers[0].Name, f.Issuers[1].Name)
	}
	for _, issuer := range f.Issuers {
		for _, path := range []string{
			issuer.Certificate, issuer.Chain[0], issuer.TrustAnchors[0], issuer.Leaf.Good.Key, issuer.Leaf.Revoked.Key, f.Ocspctl, f.OcspctlConfig,
		} {
			if _, err := os.Stat(filepath.Join(f.Root(), path)); filepath.IsAbs(path) || err != nil {
				t.Errorf("path %q of fleet.json: want a file below the root: %v", path, err)
			}
		}
		if issuer.Policy != (devfleet.Policy{NeverIssued: "unknown", Profile: "revocable", Validity: "72h"}) {
			t.Errorf("policy of %s is %+v", issuer.Name, issuer.Policy)
		}
	}
	if !strings.HasPrefix(f.Master.FeedURL, "https://127.0.0.1:") {
		t.Errorf("the feed's URL is %q", f.Master.FeedURL)
	}
	dsns := []string{f.Master.DSN, f.Master.SuperuserDSN}
	for n, site := range f.Sites {
		if site.Name != "site-"+string(rune('a'+n)) || site.Sync != []string{"feed", "logical", "feed"}[n] || !filepath.IsAbs(site.Token.SoftHSM2Conf) {
			t.Errorf("site %d is %+v", n, site)
		}
		dsns = append(dsns, site.DSN, site.SuperuserDSN)
	}
	for _, dsn := range dsns {
		pingByTCP(t, dsn)
	}
}

func pingByTCP(t *testing.T, dsn string) {
	t.Helper()
	if !strings.Contains(dsn, "@127.0.0.1:") {
		t.Errorf("%s is not TCP with a password", dsn)
	}
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("%s: %v", dsn, err)
	}
}

func TestPidsAreTheDaemonsOwn(t *testing.T) {
	f := shared(t)
	pids := map[string]int{"master/postgres": f.Master.PIDs.Postgres, "master/ocspsyncd": f.Master.PIDs.Ocspsyncd}
	for _, site := range f.Sites {
		pids[site.Name+"/postgres"], pids[site.Name+"/ocspd"], pids[site.Name+"/ocspsyncd"] = site.PIDs.Postgres, site.PIDs.Ocspd, site.PIDs.Ocspsyncd
	}
	for part, pid := range pids {
		comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != filepath.Base(part) {
			t.Errorf("%s: process %d is %q (%v)", part, pid, comm, err)
		}
	}
}

// Who watches the logs for ERROR hears of nothing while a fleet starts in good health.
func TestAHealthyStartLogsNoError(t *testing.T) {
	shared(t)
	if len(sharedFleet.errors) > 0 {
		t.Errorf("logged until it was ready:\n%s", strings.Join(sharedFleet.errors, "\n"))
	}
}

// errorsLogged are the lines of level ERROR of all daemons of a fleet.
func errorsLogged(t *testing.T, f *devfleet.Fleet) (lines []string) {
	t.Helper()
	logs, err := filepath.Glob(f.Dir() + "/log/*.log")
	if err != nil || len(logs) < 2*len(f.Sites)+1 {
		t.Fatalf("the daemons' logs: %v, %v", logs, err)
	}
	for _, log := range logs {
		raw, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if strings.Contains(line, `"level":"ERROR"`) {
				lines = append(lines, filepath.Base(log)+": "+line)
			}
		}
	}
	return lines
}

func TestEveryPartIsReadyAndEveryCopyIsWhole(t *testing.T) {
	f := shared(t)
	for _, part := range slices.DeleteFunc(f.Parts(), func(part string) bool { return part == "site-c/ocspd" }) {
		if err := f.Ready(t.Context(), part); err != nil {
			t.Error(err)
		}
	}
	if out, err := f.Ctl(t.Context(), "db", "verify"); err != nil {
		t.Errorf("db verify at the master: %v\n%s", err, out)
	}
	for _, site := range lasting(f) {
		ctl := exec.CommandContext(t.Context(), f.Path(f.Ocspctl), "--config", f.Path(filepath.Join(site.ConfigDir, "ocspctl.yaml")), "db", "verify")
		if out, err := ctl.CombinedOutput(); err != nil {
			t.Errorf("db verify at %s: %v: %s", site.Name, err, out)
		}
	}
}

// GnuPG's dirmngr and npm's ocsp verify nothing but RSA for a CA with an RSA key, and
// refused the fleet that make up makes: each site signs with a key of the CA's kind.
func TestEachIssuersAnswersAreSignedByAKeyOfItsKind(t *testing.T) {
	f := shared(t)
	for _, issuer := range f.Issuers {
		ca, err := f.IssuerCertificate(issuer)
		if err != nil {
			t.Fatal(err)
		}
		for _, site := range lasting(f) {
			answer, err := f.Ask(t.Context(), site, issuer, issuer.Serials.Good[0])
			if err != nil {
				t.Errorf("%s: %v", site.Name, err)
			} else if got := answer.Certificate.PublicKeyAlgorithm; got != ca.PublicKeyAlgorithm {
				t.Errorf("%s signs for issuer %s with %s, the CA with %s", site.Name, issuer.Name, got, ca.PublicKeyAlgorithm)
			}
		}
	}
}

// life is the story of one small fleet in one folder.
type life struct {
	options devfleet.Options
}

func (l *life) up(t *testing.T, resume bool) *devfleet.Fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l.options.Resume = resume
	f, err := devfleet.Up(ctx, l.options)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestALifeOfOneFleet is one small fleet's: a port is taken, it starts, loses
// parts, is resumed, is found half dead and replaced, and goes, twice.
func TestALifeOfOneFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	l := &life{onGround(t).options(t, "life", 1)}
	l.portTaken(t)
	resumed := l.resumed(t, l.up(t, false))
	second := l.halfDeadReplaced(t, resumed)
	l.downTwice(t, second)
}

func (l *life) portTaken(t *testing.T) {
	t.Helper()
	port := strconv.Itoa(l.options.BasePort + 12)
	listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, err = devfleet.Up(t.Context(), l.options)
	if err == nil || !strings.Contains(err.Error(), "port "+port) || !strings.Contains(err.Error(), "BASE_PORT") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("a taken port: want a sentence with the port and BASE_PORT, got %v", err)
	}
}

func (l *life) resumed(t *testing.T, first *devfleet.Fleet) *devfleet.Fleet {
	t.Helper()
	issuer, serial := first.Issuers[0], first.Issuers[0].Serials.Good[0]
	revoke(t, first, issuer, serial)
	for _, part := range []string{"site-a/ocspd", "site-a/postgres", "master/ocspsyncd"} {
		if err := first.Kill(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	resumed := l.up(t, true)
	await(t, resumed, resumed.Sites[0], issuer, serial, ocsp.Revoked, patience)
	if resumed.Master.PIDs.Postgres != first.Master.PIDs.Postgres {
		t.Error("resuming restarted what was not down")
	}
	if resumed.Sites[0].PIDs.Ocspd == 0 || resumed.Sites[0].PIDs.Ocspd == first.Sites[0].PIDs.Ocspd {
		t.Errorf("pid of the resumed ocspd is %d", resumed.Sites[0].PIDs.Ocspd)
	}
	return resumed
}

// halfDeadReplaced kills one part, freezes another and loses the notes.
func (l *life) halfDeadReplaced(t *testing.T, first *devfleet.Fleet) *devfleet.Fleet {
	t.Helper()
	if err := first.Kill(t.Context(), "master/postgres"); err != nil {
		t.Fatal(err)
	}
	if err := first.Signal("site-a/ocspsyncd", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(l.options.Dir, "fleet.json")); err != nil {
		t.Fatal(err)
	}
	second := l.up(t, false)
	allGone(t, first.Sites[0].PIDs.Ocspd, first.Sites[0].PIDs.Ocspsyncd, first.Sites[0].PIDs.Postgres)
	await(t, second, second.Sites[0], second.Issuers[0], second.Issuers[0].Serials.Good[0], ocsp.Good, patience)
	return second
}

func (l *life) downTwice(t *testing.T, f *devfleet.Fleet) {
	t.Helper()
	for range 2 {
		if err := devfleet.Down(t.Context(), l.options.Dir); err != nil {
			t.Fatal(err)
		}
	}
	allGone(t, f.Master.PIDs.Postgres, f.Master.PIDs.Ocspsyncd, f.Sites[0].PIDs.Ocspd, f.Sites[0].PIDs.Ocspsyncd, f.Sites[0].PIDs.Postgres)
	left, err := os.ReadDir(l.options.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if name := entry.Name(); name != "log" && name != ".lock" {
			t.Errorf("left in the folder beside logs: %s", name)
		}
	}
}

// allGone knows the processes of fleets that this test started: it reaped them.
func allGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
}

// TestTheDemoTellsItsStory runs the demo as a newcomer does. That its output ends
// shows that no daemon holds the pipe.
func TestTheDemoTellsItsStory(t *testing.T) {
	if testing.Short() {
		t.Skip("a whole fleet is not started with -short")
	}
	t.Parallel()
	g := onGround(t)
	o := g.options(t, "demo", 2)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	demo := exec.CommandContext(ctx, filepath.Join(g.bin, "ocspfleet"), "demo", "--dir", "demo", "--base-port", strconv.Itoa(o.BasePort))
	demo.Dir = g.dir
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, line := range []string{
		"-> good, revoked and unknown from both sites", "-> site-a says revoked, seen", "-> site-b says revoked, seen",
		"-> with the master dead both sites answer on", "-> the master is back", "-> site-a says revoked for the rsa certificate of site-b",
		"-> site-a says revoked for the ecdsa certificate of site-b", "-> site-b has stopped by itself",
	} {
		if !strings.Contains(string(out), line) {
			t.Errorf("no %q in the transcript:\n%s", line, out)
		}
	}
	if _, err := devfleet.Attach(o.Dir); err == nil {
		t.Error("the demo's fleet is still there")
	}
}
