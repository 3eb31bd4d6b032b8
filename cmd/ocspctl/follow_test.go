package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// run carries out one command line.
func run(ctx context.Context, p *cli.Program, args []string) int {
	return p.Run(ctx, rootCommand(p), args)
}

// rounds is a standard output that interrupts the program after some rounds.
type rounds struct {
	text  bytes.Buffer
	left  int
	stop  context.CancelFunc
	ends  string // of a round
	after func()
}

func (r *rounds) Write(p []byte) (int, error) {
	n, err := r.text.Write(p)
	if strings.HasSuffix(r.text.String(), r.ends) {
		r.after()
		if r.left--; r.left == 0 {
			r.stop()
		}
	}
	return n, err
}

// One database serves both ways of --follow: as lines of JSON, and drawn on a terminal.
func TestFollowDrawsOrWritesLines(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	for name, text := range map[string]string{"pw": password + "\n", "master.yaml": fmt.Sprintf("role: master\nstate_dir: state\ndatabase: {dsn: %q, password_file: pw}\n", u)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	if code := run(t.Context(), &cli.Program{Stdout: io.Discard, Stderr: t.Output(), Now: time.Now}, []string{"--config", "master.yaml", "db", "init"}); code != 0 {
		t.Fatalf("db init: exit code %d", code)
	}
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://127.0.0.1:1/', null, '', '')`)
	follow := func(ends string, screened bool, after func(), args ...string) string {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		out := &rounds{left: 2, stop: stop, ends: ends, after: after}
		var stderr strings.Builder
		p := &cli.Program{Stdout: out, Stderr: &stderr, Data: out, Meter: io.Discard, Now: time.Now}
		if screened {
			p.Screen = cli.NewScreen(out, func() (int, int) { return 80, 24 })
		}
		args = append([]string{"--config", "master.yaml", "fleet", "status", "--follow"}, args...)
		if code := run(ctx, p, args); code != cli.ExitWrong || !strings.Contains(stderr.String(), "1 of 1 sites not well") {
			t.Errorf("exit code %d, %s", code, stderr.String())
		}
		return out.text.String()
	}

	// The roster stands in the state's folder after the first round, and the second one,
	// which finds nothing new, leaves the file as it is.
	var kept []os.FileInfo
	text := follow("\n", false, func() {
		files, err := filepath.Glob("state/roster-*")
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, info)
	}, "--output", "json")
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 2 {
		t.Errorf("two rounds are %d lines of JSON:\n%s", len(lines), text)
	}
	for line := range strings.Lines(text) {
		var round struct {
			At    time.Time `json:"asked_at"`
			Sites []struct{ Name, Verdict string }
		}
		if err := json.Unmarshal([]byte(line), &round); err != nil || len(round.Sites) != 1 || round.Sites[0].Verdict != "no_certificate" || time.Since(round.At) > time.Hour {
			t.Errorf("%v: %s", err, line)
		}
	}
	if len(kept) != 2 || !os.SameFile(kept[0], kept[1]) {
		t.Error("the roster was written anew though nothing had changed")
	} else if !kept[1].ModTime().After(kept[0].ModTime()) {
		t.Error("the roster's file does not tell when the master was asked last")
	}

	text = follow("\x1b[J", true, func() {})
	if strings.Count(text, "\x1b[H") != 2 || strings.Count(text, "  1 of 1 sites not well: site-a\x1b[K\n") != 2 || strings.Count(text, "\nsite-a  no certificate ") != 2 {
		t.Errorf("not drawn over the last round:\n%q", text)
	}
}
