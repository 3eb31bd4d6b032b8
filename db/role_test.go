package db_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// loginDSN is dsn with another user.
func loginDSN(t *testing.T, dsn, user, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func TestLoginWorksByPasswordAndOnlyByIt(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	store := open(t, dsn)
	const first, second = "first pass'word \\ $1", "second-password"
	for _, password := range []string{first, second} { // made, then set anew
		if err := store.CreateLogin(t.Context(), "login_by_password", db.RoleOperator, password, db.Act{}); err != nil {
			t.Fatal(err)
		}
		var who string
		err := dbtest.Connect(t, loginDSN(t, dsn, "login_by_password", password)).QueryRow(t.Context(), "select session_user").Scan(&who)
		if err != nil || who != "login_by_password" {
			t.Errorf("logged in as %q, %v", who, err)
		}
	}
	conn, err := pgx.Connect(t.Context(), loginDSN(t, dsn, "login_by_password", first))
	if err == nil {
		conn.Close(t.Context())
		t.Error("the replaced password still opens")
	}
	log, err := os.ReadFile(dbtest.Server(t).LogFile())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "pass'word") || strings.Contains(string(log), second) {
		t.Error("a password stands in the server's log")
	}
}

func TestLoginHasTheRightsOfItsGroupAlone(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	store := open(t, dsn)
	const name, password = "login_rights", "a-good-password"
	rights := func() (super, replication bool, groups string) {
		t.Helper()
		err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select r.rolsuper, r.rolreplication,
			(select string_agg(g.rolname, ',' order by g.rolname) from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid)
			from pg_roles r where rolname = $1`, name).Scan(&super, &replication, &groups)
		if err != nil {
			t.Fatal(err)
		}
		return super, replication, groups
	}
	for _, c := range []struct {
		group       db.Role
		replication bool
	}{{db.RoleReplica, true}, {db.RoleCA, false}} {
		if err := store.CreateLogin(t.Context(), name, c.group, password, db.Act{}); err != nil {
			t.Fatal(err)
		}
		super, replication, groups := rights()
		if super || replication != c.replication || groups != string(c.group) {
			t.Errorf("as %s: superuser %v, replication %v, groups %s", c.group, super, replication, groups)
		}
	}
	_, err := dbtest.Connect(t, loginDSN(t, dsn, name, password)).Exec(t.Context(), "delete from certificate")
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "42501" {
		t.Errorf("a DELETE by the CA's software: want permission denied, got %v", err)
	}
}

// A login that opens one connection after the other keeps nobody else out.
func TestLoginCannotTakeAllConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("takes all connections")
	}
	dsn := dbtest.New(t, migrations.Master)
	master, site := open(t, dsn), open(t, dbtest.New(t, migrations.Site))
	const password = "a-good-password"
	for _, c := range []struct {
		store       *masterdb.DB
		name        string
		group       db.Role
		connections int // asked for
		want        int
	}{
		{master, "limit_person", db.RoleOperator, 0, 4},
		{master, "limit_site", db.RoleReplica, 0, 8},
		{master, "limit_daemon", db.RolePublisher, 0, 16},
		{site, "limit_sync", db.RoleSync, 0, 16},
		{site, "limit_responder", db.RoleResponder, 0, 16},
		{master, "limit_ca", db.RoleCA, 0, 32},
		{master, "limit_ca", db.RoleCA, 3, 3},
		{master, "limit_ca", db.RoleCA, 0, 3},       // the password alone is changed
		{master, "limit_ca", db.RoleOperator, 0, 4}, // another group, another limit
	} {
		if _, err := c.store.CreateLoginWith(t.Context(), c.name, c.group, password, tables.LoginOptions{Connections: c.connections}, db.Act{}); err != nil {
			t.Fatal(err)
		}
		var limit int
		if err := dbtest.Connect(t, dsn).QueryRow(t.Context(), "select rolconnlimit from pg_roles where rolname = $1", c.name).Scan(&limit); err != nil || limit != c.want {
			t.Errorf("%s as %s, %d asked for: limit %d, want %d, %v", c.name, c.group, c.connections, limit, c.want, err)
		}
	}
	var err error
	opened := 0
	for ; opened < 40 && err == nil; opened++ {
		var conn *pgx.Conn
		if conn, err = pgx.Connect(t.Context(), loginDSN(t, dsn, "limit_person", password)); err == nil {
			defer conn.Close(t.Context())
		}
	}
	var pg *pgconn.PgError
	if opened != 5 || !errors.As(err, &pg) || pg.Code != "53300" {
		t.Errorf("connection %d: %v, want the fifth refused", opened, err)
	}
	for _, n := range []int{-1, 262144} {
		if _, err := master.CreateLoginWith(t.Context(), "limit_person", db.RoleOperator, password, tables.LoginOptions{Connections: n}, db.Act{}); err == nil {
			t.Errorf("%d connections were taken", n)
		}
	}
}

// Logins belong to the cluster, and other tests make theirs: the sums are compared.
func TestConnectionLimitsAddUp(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	store := open(t, dsn)
	if err := store.CreateLogin(t.Context(), "adds_up", db.RoleOperator, "a-good-password", db.Act{}); err != nil {
		t.Fatal(err)
	}
	before, err := store.ConnectionLimits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Max < 10 || before.Reserved < 1 || before.Logins < 1 || before.Sum < 4 {
		t.Errorf("%+v", before)
	}
	dbtest.Exec(t, dsn, "alter role adds_up connection limit 100000")
	after, err := store.ConnectionLimits(t.Context())
	if err != nil || after.Sum != before.Sum-4+100000 || after.Logins != before.Logins || after.Fit() {
		t.Errorf("%+v after %+v, %v", after, before, err)
	}
	dbtest.Exec(t, dsn, "alter role adds_up connection limit -1")
	after, err = store.ConnectionLimits(t.Context())
	if err != nil || after.Sum != before.Sum-4 || !slices.Contains(after.Unlimited, "adds_up") || after.Fit() {
		t.Errorf("%+v after %+v, %v", after, before, err)
	}
}

func TestLoginRefusesNamesAndPasswordsItCannotKeep(t *testing.T) {
	store := open(t, dbtest.New(t, migrations.Site))
	for _, c := range []struct{ name, password, want string }{
		{"postgres", "a-good-password", "superuser"},
		{"ocsp_sync", "a-good-password", "no group's name"},
		{"Robert'); drop", "a-good-password", "login name"},
		{"", "a-good-password", "login name"},
		{strings.Repeat("a", 64), "a-good-password", "login name"},
		{"fine", "short", "8 to 128"},
		{"fine", "pässword-of-length", "ASCII"},
		{"fine", "line\nbreak-in-it", "ASCII"},
	} {
		err := store.CreateLogin(context.Background(), c.name, db.RoleSync, c.password, db.Act{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("login %q: want an error with %q, got %v", c.name, c.want, err)
		}
	}
	if err := store.CreateLogin(t.Context(), "fine", "postgres", "a-good-password", db.Act{}); err == nil {
		t.Error("a group that is none of ours was taken")
	}
}
