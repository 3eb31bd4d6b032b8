package db_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// hostile is what a DBA may have set for a database, for good reasons of his own.
const hostile = `do $$ begin execute format($f$
	alter database %1$I set default_transaction_isolation = 'serializable';
	alter database %1$I set default_transaction_read_only = on;
	alter database %1$I set statement_timeout = '1min';
	alter database %1$I set lock_timeout = '1min';
	alter database %1$I set idle_in_transaction_session_timeout = '1min';
	alter database %1$I set idle_session_timeout = '1min';
	alter database %1$I set standard_conforming_strings = off;
	alter database %1$I set jit = on;
	alter database %1$I set synchronous_commit = off;
	alter database %1$I set bytea_output = escape;
	alter database %1$I set datestyle = 'German, DMY';
	alter database %1$I set intervalstyle = sql_standard;
	alter database %1$I set array_nulls = off;
	alter database %1$I set transform_null_equals = on;
	alter database %1$I set quote_all_identifiers = on;
	alter database %1$I set client_encoding = latin1;
	alter database %1$I set timezone = 'Asia/Tokyo';
	alter database %1$I set search_path = pg_catalog$f$, current_database()); end $$`

// Sessions of ours work whatever is set for the database.
func TestSessionsSetWhatTheyRelyOn(t *testing.T) {
	dsn, _ := newMaster(t)
	dbtest.Exec(t, dsn, hostile)
	worksWhateverIsSet(t, dsn)
}

// worksWhateverIsSet issues, revokes and verifies, and reads what the session goes by.
func worksWhateverIsSet(t *testing.T, dsn string) {
	t.Helper()
	store := open(t, dsn)
	mustIssue(t, store, "01", "02")
	mustRevoke(t, store, db.ReasonKeyCompromise, "01")
	if counts, err := store.Verify(t.Context()); err != nil || !counts[0].Identical {
		t.Error(counts, err)
	}
	pool, err := pg.OpenPool(t.Context(), pg.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for name, want := range map[string]string{
		"transaction_isolation": "read committed", "transaction_read_only": "off", "TimeZone": "UTC",
		"search_path": "public, ocsp_feed, ocsp_internal, pg_temp", "standard_conforming_strings": "on", "jit": "off",
		"synchronous_commit": "on", "bytea_output": "hex", "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "array_nulls": "on", "transform_null_equals": "off",
		"client_encoding":   "UTF8",
		"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0", "idle_session_timeout": "0",
	} {
		var got string
		if err := pool.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
		}
	}
}

// pgbouncer in session mode hands every session on as it is.
func TestThroughPgbouncerInSessionMode(t *testing.T) {
	direct, _ := newMaster(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	dir := t.TempDir()
	ini := fmt.Sprintf("[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nauth_type = plain\nauth_file = %s\npool_mode = session\nunix_socket_dir =\n",
		u.Hostname(), u.Port(), port, filepath.Join(dir, "users"))
	for name, text := range map[string]string{"users": fmt.Sprintf("%q %q\n", u.User.Username(), password), "pgbouncer.ini": ini} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	bouncer := exec.Command("/usr/sbin/pgbouncer", filepath.Join(dir, "pgbouncer.ini"))
	if os.Geteuid() == 0 { // it refuses to run as root
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
		bouncer.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
			if err := os.Chmod(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := bouncer.Start(); err != nil {
		t.Fatalf("starting pgbouncer (apt install pgbouncer): %v", err)
	}
	t.Cleanup(func() { _ = bouncer.Process.Kill(); _ = bouncer.Wait() })
	u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dbtest.Exec(t, direct, hostile)
	store := open(t, u.String())
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := store.Ping(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if err := store.CheckSchema(t.Context(), string(migrations.Master)); err != nil {
		t.Fatal(err)
	}
	worksWhateverIsSet(t, u.String())
}
