// Package dbtest gives each test a fresh, migrated database on a real
// PostgreSQL. One server per test binary is started at first use and ends with
// the binary, killed or not; each database is a clone of a template that was
// migrated once per role.
//
// It is for tests only: integration/rooms_test.go sees that no binary links it.
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/integration/testkit/pgserver"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
)

// patience bounds each step here: starting a server takes 1 s, migrating 0.1 s.
const patience = time.Minute

// fast trades durability against the machine's crash, not against the server's,
// for speed.
var fast = map[string]string{"fsync": "off", "full_page_writes": "off"}

// shared is the binary's server; the keeper of pgserver ends it with the binary.
var shared = sync.OnceValues(func() (*pgserver.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return pgserver.Start(ctx, pgserver.Config{Settings: fast})
})

var (
	// templates holds per role the once that makes the template.
	templates = map[migrations.Role]func() (string, error){
		migrations.Master: sync.OnceValues(func() (string, error) { return makeTemplate(migrations.Master) }),
		migrations.Site:   sync.OnceValues(func() (string, error) { return makeTemplate(migrations.Site) }),
	}
	databases atomic.Int64 // numbers the databases of this binary
)

// Server returns the server that all tests of this binary share. Do not stop it:
// a test that does so takes a Cluster.
func Server(tb testing.TB) *pgserver.Server {
	tb.Helper()
	s, err := shared()
	if err != nil {
		tb.Fatalf("starting the tests' PostgreSQL: %v", err)
	}
	return s
}

// New returns the superuser's DSN of a fresh database, migrated as role, on the
// shared server. It is dropped when the test ends.
func New(tb testing.TB, role migrations.Role) string {
	tb.Helper()
	s := Server(tb)
	template, err := templates[role]()
	if err != nil {
		tb.Fatalf("making the template of role %s: %v", role, err)
	}
	name := fmt.Sprintf("%s_%d", role, databases.Add(1))
	if err := clone(administer, name, template, role); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// A subscription or slot left in it refuses the drop; it ends with the server.
		if err := administer("drop database " + name + " with (force)"); err != nil {
			tb.Logf("leaving database %s behind: %v", name, err)
		}
	})
	return s.DSN(name)
}

// administration is one connection to the shared server, kept since a login takes as
// long as what it is made for.
var administration struct {
	sync.Mutex
	conn *pgx.Conn
}

// administer runs statements on the shared server, beside the tests' databases.
func administer(sql string) error {
	administration.Lock()
	defer administration.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if administration.conn == nil || administration.conn.IsClosed() {
		s, err := shared()
		if err != nil {
			return err
		}
		if administration.conn, err = pgx.Connect(ctx, s.DSN("postgres")); err != nil {
			return fmt.Errorf("connecting for %q: %w", sql, err)
		}
	}
	if _, err := administration.conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("running %q: %w", sql, err)
	}
	return nil
}

// Cluster starts a server of the test's own, for tests that kill it or need
// settings. settings are added to the fast ones. It ends with the test, which
// prints the end of its log if it failed. With -short the test is skipped.
func Cluster(tb testing.TB, settings map[string]string) *pgserver.Server {
	tb.Helper()
	if testing.Short() {
		tb.Skip("starts a PostgreSQL of its own")
	}
	all := map[string]string{}
	for _, some := range []map[string]string{fast, settings} {
		for name, value := range some {
			all[name] = value
		}
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	s, err := pgserver.Start(ctx, pgserver.Config{Settings: all})
	if err != nil {
		tb.Fatalf("starting a PostgreSQL for this test: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of PostgreSQL's log:\n%s", logEnd(s.LogFile()))
		}
		if err := s.Destroy(); err != nil {
			tb.Errorf("stopping this test's PostgreSQL: %v", err)
		}
	})
	return s
}

// models are the templates on servers where a second database of a role was wanted.
var models struct {
	sync.Mutex
	of map[model]string // "": one database was made
}

type model struct {
	server *pgserver.Server
	role   migrations.Role
}

// Migrated makes a database called name on s, migrated as role, and returns the
// superuser's DSN. From the second one of a server on it is a clone.
func Migrated(tb testing.TB, s *pgserver.Server, name string, role migrations.Role) string {
	tb.Helper()
	template, err := modelOn(s, role)
	if err == nil && template == "" {
		err = makeDatabase(s, name, role)
	} else if err == nil {
		err = clone(func(sql string) error { return exec(s.DSN("postgres"), sql) }, name, template, role)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s.DSN(name)
}

// modelOn returns the template of the role on s; "": this is the first database there.
func modelOn(s *pgserver.Server, role migrations.Role) (string, error) {
	models.Lock()
	defer models.Unlock()
	if models.of == nil {
		models.of = map[model]string{}
	}
	key := model{s, role}
	name, second := models.of[key]
	if !second || name != "" {
		models.of[key] = name
		return name, nil
	}
	name = "model_" + string(role)
	if err := makeDatabase(s, name, role); err != nil {
		return "", err
	}
	models.of[key] = name
	return name, nil
}

// clone makes a database from a template. Files are copied: through the log it takes
// twice as long. The template's rights do not come with it.
func clone(run func(sql string) error, name, template string, role migrations.Role) error {
	quoted := pgx.Identifier{name}.Sanitize()
	if err := run("create database " + quoted + " template " + template + " strategy file_copy"); err != nil {
		return err
	}
	return run(strings.Join(migrations.DatabaseGrants(name, role), "; "))
}

// As returns dsn with the rights of another role, as if its user had logged in:
// for tests of what a role may not do.
func As(dsn, role string) string {
	return dsn + "&options=" + url.QueryEscape("-crole="+role)
}

// Dial connects; the session finds the internals without their schema's name, as those
// of package db do.
func Dial(ctx context.Context, dsn string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "set search_path = public, ocsp_feed, ocsp_internal, pg_temp; set jit = off"); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// Connect opens a connection that is closed when the test ends.
func Connect(tb testing.TB, dsn string) *pgx.Conn {
	tb.Helper()
	conn, err := Dial(tb.Context(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = conn.Close(ctx) // the server may be dead by the test's own doing
	})
	return conn
}

// Exec runs one or more statements on a connection of its own.
func Exec(tb testing.TB, dsn, sql string) {
	tb.Helper()
	if err := exec(dsn, sql); err != nil {
		tb.Fatal(err)
	}
}

func makeTemplate(role migrations.Role) (string, error) {
	s, err := shared()
	if err != nil {
		return "", err
	}
	name := "template_" + string(role)
	return name, makeDatabase(s, name, role)
}

func makeDatabase(s *pgserver.Server, name string, role migrations.Role) error {
	if err := exec(s.DSN("postgres"), "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := migrations.Up(ctx, s.DSN(name), role); err != nil {
		return fmt.Errorf("migrating database %s as %s: %w", name, role, err)
	}
	return nil
}

func exec(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := Dial(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connecting for %q: %w", sql, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("running %q: %w", sql, err)
	}
	return nil
}

func logEnd(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
