package main

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"ocspfleet/integration/testkit/pgserver"

	"github.com/rogpeppe/go-internal/testscript"
)

// pair is a primary and its standby, by the script's folder.
type pair struct{ primary, standby *pgserver.Server }

var pairs sync.Map

// cluster: moves the script's database to a PostgreSQL of its own, empty.
func newCluster(ts *testscript.TestScript, _ bool, _ []string) {
	u, err := url.Parse(ts.Getenv("DSN"))
	ts.Check(err)
	password, _ := u.User.Password()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := pgserver.Start(ctx, pgserver.Config{Password: password, Settings: map[string]string{"fsync": "off", "max_connections": "60"}})
	ts.Check(err)
	ts.Defer(func() { _ = s.Destroy() }) // the keeper ends what is left
	p := &pair{primary: s}
	pairs.Store(ts.MkAbs("."), p)
	answer(ts, s, "postgres", "create database "+u.Path[1:])
	move(ts, u, s)
}

// move names another server in DSN and in master.yaml.
func move(ts *testscript.TestScript, from *url.URL, to *pgserver.Server, files ...string) {
	for _, file := range append(files, "master.yaml") {
		text := strings.ReplaceAll(ts.ReadFile(file), from.Host, "127.0.0.1:"+strconv.Itoa(to.Port))
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
	ts.Setenv("DSN", to.DSN(from.Path[1:]))
}

// standby: has a standby stream from the script's cluster, and waits until it has all.
// standby cut: it receives nothing any more. standby promote FILES...: the primary dies,
// and the files, DSN and master.yaml name the standby.
func standby(ts *testscript.TestScript, _ bool, args []string) {
	found, ok := pairs.Load(ts.MkAbs("."))
	if !ok {
		ts.Fatalf("no cluster was started")
	}
	p := found.(*pair)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch {
	case len(args) == 0:
		var err error
		p.standby, err = p.primary.Standby(ctx, nil)
		ts.Check(err)
		ts.Defer(func() { _ = p.standby.Destroy() })
		awaitAnswer(ts, p.primary, "select count(*) from pg_stat_replication where state = 'streaming'", "1")
	case args[0] == "cut":
		// Replay that is paused goes on at a promotion: what was received is never lost.
		lsn := answer(ts, p.primary, "postgres", "select pg_current_wal_lsn()::text")
		awaitAnswer(ts, p.standby, "select (pg_last_wal_replay_lsn() >= '"+lsn+"')::text", "true")
		answer(ts, p.standby, "postgres", "alter system set primary_conninfo = ''")
		answer(ts, p.standby, "postgres", "select pg_reload_conf()::text")
		awaitAnswer(ts, p.standby, "select count(*)::text from pg_stat_wal_receiver", "0")
	default:
		u, err := url.Parse(ts.Getenv("DSN"))
		ts.Check(err)
		ts.Check(p.primary.Kill())
		answer(ts, p.standby, "postgres", "select pg_promote()::text")
		awaitAnswer(ts, p.standby, "select pg_is_in_recovery()::text", "false")
		move(ts, u, p.standby, args[1:]...)
	}
}

// answer runs one statement and returns its answer.
func answer(ts *testscript.TestScript, s *pgserver.Server, database, sql string) string {
	out, err := exec.Command("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", s.DSN(database), "-c", sql).CombinedOutput()
	if err != nil {
		ts.Fatalf("%s: %v: %s", sql, err, out)
	}
	return strings.TrimSpace(string(out))
}

func awaitAnswer(ts *testscript.TestScript, s *pgserver.Server, sql, want string) {
	got := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = answer(ts, s, "postgres", sql); got == want {
			return
		}
	}
	ts.Fatalf("%s: %s, never %s", sql, got, want)
}
