package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"ocspfleet/db"
	"ocspfleet/db/dbtest"
	"ocspfleet/hsm/softhsm"
	"ocspfleet/migrations"
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
			store, err := db.Open(t.Context(), db.Config{DSN: dsn})
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
				"SITE": as(dsn, login), "EMPTY": as(server.DSN("empty_"+name), login), "TOKEN": token.URI(), "NOTOKEN": strings.Replace(token.URI(), "token=site-a", "token=site-z", 1), "CONF": token.Conf,
				"GORACE": "atexit_sleep_ms=0",
			} {
				env.Setenv(variable, value)
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "pw"), []byte(password+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"expand": expand},
	})
}

// as is dsn with another user and no password.
func as(dsn, user string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(fmt.Sprintf("the test server's own DSN: %v", err))
	}
	u.User = url.User(user)
	return u.String()
}

// expand FILE...: puts the environment into files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}
