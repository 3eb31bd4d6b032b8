package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/nameserver"
	"ocspfleet/integration/testkit/softhsm"
)

func TestMain(m *testing.M) {
	testscript.Main(cleaning{m}, map[string]func(){"ocspctl": main})
}

// cleaning takes away what built made.
type cleaning struct{ m *testing.M }

func (c cleaning) Run() int {
	code := c.m.Run()
	if daemonsDir != "" {
		_ = os.RemoveAll(daemonsDir) // a leftover in /tmp harms nobody
	}
	return code
}

// daemonsDir is where built put the daemons; empty: nowhere yet.
var daemonsDir string

// databases numbers the empty databases of the scripts.
var databases atomic.Int64

// quick are the scripts that run with -short.
var quick = []string{
	"testdata/audit.txtar", "testdata/config.txtar", "testdata/help.txtar", "testdata/responder.txtar",
	"testdata/roles.txtar", "testdata/screen.txtar", "testdata/terminal.txtar",
}

// TestScripts runs testdata/*.txtar against a real PostgreSQL. Each script has
// an empty database of its own, which master.yaml and site.yaml both name, and
// may ask for a token with the command token.
func TestScripts(t *testing.T) {
	server := dbtest.Server(t)
	dir, files := "testdata", []string(nil)
	if testing.Short() {
		dir, files = "", quick
	}
	testscript.Run(t, testscript.Params{
		Dir: dir, Files: files,
		Setup: func(env *testscript.Env) error {
			name := fmt.Sprintf("script_%d", databases.Add(1))
			dbtest.Exec(t, server.DSN("postgres"), "create database "+name)
			// The password stands in a file, as users are told to have it.
			head, rest, _ := strings.Cut(server.DSN(name), "://postgres:")
			password, tail, _ := strings.Cut(rest, "@")
			if err := os.WriteFile(filepath.Join(env.WorkDir, "db.pw"), []byte(password+"\n"), 0o600); err != nil {
				return err
			}
			for _, role := range []string{"master", "site"} {
				config := fmt.Sprintf("role: %s\ndatabase: {dsn: %q, password_file: db.pw}\n", role, head+"://postgres@"+tail)
				if err := os.WriteFile(filepath.Join(env.WorkDir, role+".yaml"), []byte(config), 0o600); err != nil {
					return err
				}
			}
			env.Setenv("DSN", server.DSN(name))
			env.Setenv("SUDO_USER", "alice")
			env.Setenv("AUDITED", "alice as root")
			if os.Geteuid() != 0 { // only root may say that it is somebody else
				self, err := user.Current()
				if err != nil {
					return err
				}
				env.Setenv("AUDITED", self.Username)
			}
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each run of ocspctl under -race ends with a second of sleep
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "psql": psql, "openssl": openssl, "token": newToken, "serial": serial, "append": appendTo, "login": login, "until": until, "index": numbered, "elsewhere": elsewhere, "inforce": inForce, "fork": fork,
			"catoken": newCAToken, "daemons": buildDaemons, "keep": keep, "readfile": readFile, "port": freePort,
			"nameserver": startNameserver, "names": names, "cluster": newCluster, "standby": standby,
		},
	})
}

// exits CODE PROGRAM ARGS...: runs a program that must end with this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var failed *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("running %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s ended with code %d, want %d", args[1], got, want)
	}
}

// psql SQL: prints what the script's database answers.
func psql(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", ts.Getenv("DSN"),
		"-c", "set search_path = public, ocsp_feed, ocsp_internal, pg_temp", "-c", args[0]))
}

// inforce NUMBER FILE: brings a signed key set into force, as the master's ocspsyncd does.
func inForce(ts *testscript.TestScript, _ bool, args []string) {
	psql(ts, false, []string{fmt.Sprintf(`insert into feed_keys (number, note) values (%s, '\x%x')`, args[0], ts.ReadFile(args[1]))})
}

// openssl ARGS...: runs openssl, which must succeed.
func openssl(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("openssl", args...))
}

// newToken: makes a SoftHSM token and adds it to token.yaml.
func newToken(ts *testscript.TestScript, _ bool, _ []string) {
	t, err := softhsm.New(ts.MkAbs("token"), "site-a", "1234")
	ts.Check(err)
	config := fmt.Sprintf("token: {uri: %q, softhsm2_conf: %q}\n", t.URI(), t.Conf)
	ts.Check(os.WriteFile(ts.MkAbs("token.yaml"), []byte(config), 0o600))
}

// catoken KEY FILE TEXT: makes a SoftHSM token, puts the key into it, and writes the
// text with the token's settings for %s into the file.
func newCAToken(ts *testscript.TestScript, _ bool, args []string) {
	t, err := softhsm.New(ts.MkAbs("catoken"), "ca", "1234")
	ts.Check(err)
	ts.Setenv("SOFTHSM2_CONF", t.Conf)
	ts.Check(ts.Exec("softhsm2-util", "--import", args[0], "--token", "ca", "--label", "ca", "--id", "01", "--pin", "1234"))
	ts.Setenv("SOFTHSM2_CONF", "")
	settings := fmt.Sprintf("{uri: %q, softhsm2_conf: %q}", t.URI(), t.Conf)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(fmt.Sprintf(args[2], settings)+"\n"), 0o600))
}

// serial VARIABLE PATTERN: keeps the first hex number after PATTERN in stdout.
func serial(ts *testscript.TestScript, _ bool, args []string) {
	_, after, found := strings.Cut(ts.ReadFile("stdout"), args[1])
	if !found {
		ts.Fatalf("no %q in stdout", args[1])
	}
	after = strings.TrimLeft(after, ` ":`)
	ts.Setenv(args[0], after[:len(after)-len(strings.TrimLeft(after, "0123456789abcdef"))])
}

// keep VARIABLE REGEXP: keeps what the group in it matches in stdout.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("no match for %q in stdout", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// readfile VARIABLE FILE: keeps a file's text.
func readFile(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], ts.ReadFile(args[1]))
}

// built makes the daemons once for all scripts.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ocspctl-daemons-")
	if err != nil {
		return "", err
	}
	daemonsDir = dir
	out, err := exec.Command("go", "build", "-o", dir, "ocspfleet/cmd/ocspd", "ocspfleet/cmd/ocspsyncd").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("building the daemons: %w: %s", err, out)
	}
	return dir, nil
})

// daemons: puts ocspd and ocspsyncd into the script's PATH.
func buildDaemons(ts *testscript.TestScript, _ bool, _ []string) {
	dir, err := built()
	ts.Check(err)
	ts.Setenv("PATH", dir+string(os.PathListSeparator)+ts.Getenv("PATH"))
}

// nameserver KIND FILE: starts a primary of example.org with the sample of docs/dns.md,
// keeps its key in dns.key, and adds the page's dns to the file.
func startNameserver(ts *testscript.TestScript, _ bool, args []string) {
	p, err := nameserver.StartPrimary(context.Background(), nameserver.Kind(args[0]), docsPage,
		"$ORIGIN example.org.\n$TTL 3600\n@ SOA ns1 hostmaster 1 3600 600 604800 60\n@ NS ns1\nns1 A 127.0.0.1\n", nil)
	ts.Check(err)
	ts.Defer(p.Stop)
	primaries.Store(ts.MkAbs("."), p)
	key, err := os.ReadFile(p.KeyFile)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("dns.key"), key, 0o600))
	page, err := os.ReadFile(docsPage)
	ts.Check(err)
	_, sample, _ := strings.Cut(string(page), "```yaml\n")
	sample, _, _ = strings.Cut(sample, "```")
	for from, to := range map[string]string{"ns1.example.org:53": p.Address, "/etc/ocspfleet/dns.key": "dns.key"} {
		if !strings.Contains(sample, from) {
			ts.Fatalf("docs/dns.md does not say %s", from)
		}
		sample = strings.Replace(sample, from, to, 1)
	}
	appendTo(ts, false, []string{args[1], sample + "  servers: [" + p.Address + "]"})
}

// docsPage is the page with the samples, for TestScripts runs in our folder.
var docsPage = must(filepath.Abs("../../docs/dns.md"))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// primaries are the servers of the scripts, by their folders.
var primaries sync.Map

// names set|want NAME ADDRESSES...: has nsupdate set what a name has, or dig look at it.
func names(ts *testscript.TestScript, _ bool, args []string) {
	found, ok := primaries.Load(ts.MkAbs("."))
	if !ok {
		ts.Fatalf("no name server was started")
	}
	p := found.(*nameserver.Primary)
	if args[0] == "set" {
		ts.Check(p.Set(context.Background(), args[1], args[2:]...))
		return
	}
	got, err := p.Seen(context.Background(), args[1])
	ts.Check(err)
	if want := slices.Sorted(slices.Values(args[2:])); !slices.Equal(got, want) {
		ts.Fatalf("%s has %v, want %v", args[1], got, want)
	}
}

// append FILE TEXT: adds a line to a file.
func appendTo(ts *testscript.TestScript, _ bool, args []string) {
	old, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(old, args[1]+"\n"...), 0o600))
}

// login FILE NAME PASSWORDFILE: writes a configuration for this login at the
// script's database.
func login(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(ts.Getenv("DSN"))
	ts.Check(err)
	u.User = url.User(args[1])
	ts.Check(os.Chmod(ts.MkAbs(args[2]), 0o600))
	config := fmt.Sprintf("role: master\ndatabase: {dsn: %q, password_file: %s}\n", u, args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(config), 0o600))
}

// elsewhere FILE ROLE: makes another empty database and a configuration for it.
func elsewhere(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(ts.Getenv("DSN"))
	ts.Check(err)
	name := fmt.Sprintf("script_%d", databases.Add(1))
	ts.Check(ts.Exec("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", ts.Getenv("DSN"), "-c", "create database "+name))
	u.Path, u.User = "/"+name, url.User("postgres")
	config := fmt.Sprintf("role: %s\ndatabase: {dsn: %q, password_file: db.pw}\n", args[1], u)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(config), 0o600))
}

// port VARIABLE: keeps an address of this machine where nobody listens.
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

// until SQL ANSWER: waits until the script's database answers so.
func until(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		psql(ts, false, args[:1])
		if strings.TrimSpace(ts.ReadFile("stdout")) == args[1] {
			return
		}
	}
	ts.Fatalf("%s: never answered %s", args[0], args[1])
}

// index FILE N: writes an index.txt of N certificates, each tenth of them revoked.
func numbered(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var text strings.Builder
	for i := range n {
		if i%10 == 0 {
			fmt.Fprintf(&text, "R\t301231235959Z\t260101120000Z,superseded\t%06X\tunknown\t/CN=n%d\n", i+1, i)
		} else {
			fmt.Fprintf(&text, "V\t301231235959Z\t\t%06X\tunknown\t/CN=n%d\n", i+1, i)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text.String()), 0o600))
}

// Every verb explains itself with an example that begins with the program.
func TestEveryVerbHasAnExample(t *testing.T) {
	p := &cli.Program{Stdout: io.Discard, Stderr: io.Discard, Now: time.Now}
	verbs := 0
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s: no summary", c.CommandPath())
		}
		for _, child := range c.Commands() {
			walk(child)
		}
		if c.HasSubCommands() {
			return
		}
		verbs++
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  "+c.CommandPath()) {
				t.Errorf("%s: example %q", c.CommandPath(), line)
			}
		}
		if c.Example == "" {
			t.Errorf("%s: no example", c.CommandPath())
		}
		if len(c.Long) < 40 {
			t.Errorf("%s: no long help (help.go)", c.CommandPath())
		}
	}
	walk(rootCommand(p))
	if verbs < 20 {
		t.Errorf("only %d verbs", verbs)
	}
}
