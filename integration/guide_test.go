package integration

import (
	"crypto/sha256"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5/pgconn"
)

// newCA gives a master with issuer 1, web-ca, and the login of a CA's software.
func newCA(t *testing.T, login string) (store *masterdb.DB, dsn string) {
	t.Helper()
	super := dbtest.New(t, migrations.Master)
	store, err := masterdb.Open(t.Context(), tables.Config{DSN: super})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddIssuer(t.Context(), db.Issuer{
		Key: sha256.Sum256([]byte("key")), Name: "web-ca", Certificate: []byte{0x30, 0},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	}, db.Act{}); err != nil {
		t.Fatal(err)
	}
	if err := store.CreateLogin(t.Context(), login, db.RoleCA, "a-good-password", db.Act{}); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(super)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, "a-good-password")
	return store, u.String()
}

// blocks returns the fenced blocks of a language in a page.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	return found
}

// What docs/ca-guide.md shows works, in its order, with the rights it names.
func TestGuideOfTheCAWorksAsWritten(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs")
	}
	store, dsn := newCA(t, "guide_ca")
	conn := dbtest.Connect(t, dsn)
	sql := blocks(t, "ca-guide.md", "sql")
	if len(sql) < 6 {
		t.Fatalf("only %d blocks", len(sql))
	}
	for _, block := range sql {
		results, err := conn.PgConn().Exec(t.Context(), block).ReadAll()
		if err != nil {
			t.Fatalf("%s\n%v", block, err)
		}
		for _, r := range results {
			if len(r.Rows) != 1 {
				t.Errorf("%s\ngave %d rows", block, len(r.Rows))
			}
		}
	}
	for serial, revoked := range map[string]bool{"5f03a1": true, "5f03a2": false, "11": false, "13": true} {
		parsed, err := db.ParseSerial(serial)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := store.Certificate(t.Context(), 1, parsed); err != nil || st.Revoked != revoked {
			t.Errorf("serial %s: %+v, %v", serial, st, err)
		}
	}
	// The table of errors.
	for _, c := range []struct{ sql, state string }{
		{`select certificate_revoke(1, '\x77', null, null, '', '')`, "P0002"},
		{`select certificate_issue(1, '\x5f03a1', '2031-01-01Z', '', '')`, "23505"},
		{`select certificate_issue(1, '\x0001', '2031-01-01Z', '', '')`, "23514"},
		{`select certificate_issue(1, '\x8001', '2031-01-01Z', '', '')`, "23514"},
		{`select certificate_issue(1, '\x01', '2031-01-01 00:00:00.5Z', '', '')`, "23514"},
		{`select certificate_revoke(1, '\x11', null, '2040-01-01Z', '', '')`, "23514"},
		{`select certificate_issue(9, '\x01', '2031-01-01Z', '', '')`, "23503"},
		{`select certificate_hold(1, '\x5f03a1', '', '')`, "23000"},
		{`begin isolation level repeatable read; select certificate_issue(1, '\x01', '2031-01-01Z', '', ''); commit`, "0A000"},
		{`update certificate set revoked_at = null`, "42501"},
		{`insert into certificate values (1, '\x01', '2031-01-01Z')`, "42501"},
		{`delete from certificate`, "42501"},
		{`truncate certificate`, "42501"},
		{`select * from audit`, "42501"},
		{`select audit_append('cert revoke', '{}', '', '')`, "42501"},
		{`select issuer_add('\x00', 'x', '\x00', 1, 1, 1, 1, 1, 1, '', '', '', false, '', '')`, "42501"},
	} {
		_, err := dbtest.Connect(t, dsn).PgConn().Exec(t.Context(), c.sql).ReadAll()
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != c.state {
			t.Errorf("%s\ngave %v, want SQLSTATE %s", c.sql, err, c.state)
		}
	}
}

// The client in sh does what the guide says of it.
func TestGuideClientWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the client of the guide")
	}
	store, dsn := newCA(t, "guide_client")
	run := func(code int, want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{"../docs/examples/ca-client.sh"}, args...)...)
		cmd.Env = append(os.Environ(), "DSN="+dsn)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
			t.Errorf("%v: code %d (%v), want %d and %q: %s", args, got, err, code, want, out)
		}
	}
	run(0, "registered", "register", "web-ca", "80:01", "2030-02-01T00:00:00Z", "order 4711")
	run(0, "was registered", "register", "web-ca", "008001", "2030-02-01T00:00:00Z")
	run(1, "23505", "register", "web-ca", "8001", "2031-02-01T00:00:00Z")
	run(0, "good", "status", "web-ca", "8001")
	run(0, "never issued", "status", "web-ca", "8002")
	run(0, "no such issuer", "status", "x'; drop table certificate; --", "8002")
	run(0, "revoked at", "revoke", "web-ca", "8001", "1", "it's $(id) 'quoted'; --")
	run(0, "was revoked at", "revoke", "web-ca", "8001", "0")
	run(1, "P0002", "revoke", "web-ca", "77", "1")
	run(2, "hexadecimal", "status", "web-ca", "xyz")
	run(2, "register ISSUER", "revoke", "web-ca")
	dsn = "postgres://nobody@127.0.0.1:1/x"
	run(4, "127.0.0.1", "status", "web-ca", "01")
	if st, err := store.Certificate(t.Context(), 1, db.Serial{0, 0x80, 1}); err != nil || !st.Permanent() || st.Reason != db.ReasonKeyCompromise {
		t.Errorf("got %+v, %v", st, err)
	}
}

// The SQL of the guide works in psql, one block after the other, each call its own
// transaction.
func TestGuideOfTheCAWorksInPsql(t *testing.T) {
	store, dsn := newCA(t, "guide_psql")
	for _, block := range blocks(t, "ca-guide.md", "sql") {
		cmd := exec.CommandContext(t.Context(), "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dsn)
		cmd.Stdin = strings.NewReader(block)
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) == "" {
			t.Errorf("%s\n%v: %s", block, err, out)
		}
	}
	if st, err := store.Certificate(t.Context(), 1, db.Serial{0x5f, 0x03, 0xa1}); err != nil || !st.Permanent() {
		t.Errorf("got %+v, %v", st, err)
	}
}

// So does its Python, with the driver that Debian packages.
func TestGuidesPythonWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("asks foreign programs")
	}
	store, dsn := newCA(t, "guide_python")
	python := blocks(t, "ca-guide.md", "python")
	if len(python) != 1 {
		t.Fatalf("%d blocks of Python", len(python))
	}
	script := python[0] + `
import sys
dsn = sys.argv[1]
assert register(dsn, 1, 0x8001, "2030-02-01 00:00:00+00", "order 4711") is True
assert register(dsn, 1, 0x8001, "2030-02-01 00:00:00+00", "order 4711") is False
assert register(dsn, 1, 0x7f, "2030-02-01 00:00:00+00", "order 4712") is True
at, changed = revoke(dsn, 1, 0x8001, 1, "it's \"found\"; --")
assert changed and at.tzinfo is not None
assert revoke(dsn, 1, 0x8001, None, "again") == (at, False)
try:
    register(dsn, 1, 0x8001, "2031-02-01 00:00:00+00", "another end")
    sys.exit("a serial was registered twice")
except psycopg2.errors.UniqueViolation as e:
    assert e.pgcode == "23505"
time.sleep = lambda seconds: None
try:
    register("postgres://nobody@127.0.0.1:1/x", 1, 1, "2030-02-01 00:00:00+00", "")
    sys.exit("registered nowhere")
except RuntimeError as e:
    assert "not signing" in str(e)
print("well")
`
	file := filepath.Join(t.TempDir(), "guide.py")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", file, dsn).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "well" {
		t.Fatalf("%v (is python3-psycopg2 installed? make deps-test): %s", err, out)
	}
	for serial, revoked := range map[string]bool{"008001": true, "7f": false} {
		parsed, err := db.ParseSerial(serial)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := store.Certificate(t.Context(), 1, parsed); err != nil || st.Permanent() != revoked {
			t.Errorf("serial %s: %+v, %v", serial, st, err)
		}
	}
}
