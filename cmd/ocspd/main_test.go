package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/faultpkcs11"
	"ocspfleet/integration/testkit/script"
	"ocspfleet/integration/testkit/softhsm"
	"ocspfleet/migrations"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ocspd": main})
}

// TestScripts runs testdata/*.txtar. Each script has a site's database and one
// without a schema, the login of its ocspd, and a token without a key.
func TestScripts(t *testing.T) {
	server := dbtest.Server(t)
	const login, password = "script_responder", "a password of scripts"
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			name := strings.ReplaceAll(filepath.Base(env.WorkDir), "-", "_")
			dsn := dbtest.Migrated(t, server, name, migrations.Site)
			dbtest.Exec(t, server.DSN("postgres"), "create database empty_"+name)
			store, err := sitedb.Open(t.Context(), tables.Config{DSN: dsn})
			if err != nil {
				return err
			}
			defer store.Close()
			if err := store.CreateLogin(t.Context(), login, db.RoleResponder, password, db.Act{User: "test"}); err != nil {
				return err
			}
			token, err := softhsm.New(filepath.Join(env.WorkDir, "token"), "site-a", "1234")
			if err != nil {
				return err
			}
			for variable, value := range map[string]string{
				"SITE": script.As(dsn, login), "SUPERUSER": dsn, "EMPTY": script.As(server.DSN("empty_"+name), login), "TOKEN": token.URI(), "NOTOKEN": strings.Replace(token.URI(), "token=site-a", "token=site-z", 1), "CONF": token.Conf,
				"STATE_DIRECTORY": filepath.Join(env.WorkDir, "state"),
				"ADMIN":           script.FreeAddr(),
				"GORACE":          "atexit_sleep_ms=0",
			} {
				env.Setenv(variable, value)
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "pw"), []byte(password+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"expand": script.Expand, "awaits": script.Awaits, "faulty": putFaulty, "noted": noted},
	})
}

// faulty are those of the scripts, by their folders.
var faulty sync.Map

// faulty: has $FAULTY be the token's URI by a library that counts the logins.
func putFaulty(ts *testscript.TestScript, _ bool, _ []string) {
	uri, err := tokenconf.ParseURI(ts.Getenv("TOKEN"))
	ts.Check(err)
	s, err := faultpkcs11.Build(ts.MkAbs("."), uri.ModulePath)
	ts.Check(err)
	faulty.Store(ts.MkAbs("."), s)
	uri.ModulePath = s.Module
	ts.Setenv("FAULTY", uri.String())
}

// noted N WHAT: the library must have noted so many.
func noted(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	s, ok := faulty.Load(ts.MkAbs("."))
	if !ok {
		ts.Fatalf("there is no faulty library")
	}
	if n, err := s.(*faultpkcs11.Library).Noted(args[1]); err != nil || n != want {
		ts.Fatalf("%d times %q, want %d; %v", n, args[1], want, err)
	}
}

// The unit must know the code that ocspd ends with, or systemd offers the PIN on and on.
func TestUnitDoesNotRestartAfterAWrongPIN(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/systemd/ocspd.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{fmt.Sprintf("RestartPreventExitStatus=%d", boot.ExitNoRestart), "StateDirectory=ocspd", "Restart=on-failure"} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("ocspd.service has no line %s", line)
		}
	}
	if program.NoRestart != tokenconf.ErrPIN {
		t.Errorf("ocspd ends with %d for %v", boot.ExitNoRestart, program.NoRestart)
	}
}
