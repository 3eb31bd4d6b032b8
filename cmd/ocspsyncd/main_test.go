package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ocspfleet/db"
	"ocspfleet/db/dbtest"
	"ocspfleet/migrations"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ocspsyncd": main})
}

// TestScripts runs testdata/*.txtar. Each script has a master and a site of its
// own, with the logins of their daemons in master.yaml and site.yaml.
func TestScripts(t *testing.T) {
	masterServer, siteServer := dbtest.Server(t), dbtest.Cluster(t, map[string]string{"wal_retrieve_retry_interval": "200ms"})
	atMaster, atSite := map[string]db.Role{"script_publisher": db.RolePublisher, "script_replica": db.RoleReplica}, map[string]db.Role{"script_sync": db.RoleSync}
	const password = "a password of scripts"
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			name := strings.ReplaceAll(filepath.Base(env.WorkDir), "-", "_")
			masterDSN := dbtest.Migrated(t, masterServer, name, migrations.Master)
			siteDSN := dbtest.Migrated(t, siteServer, name, migrations.Site)
			dbtest.Exec(t, siteServer.DSN("postgres"), "create database empty_"+name)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			for dsn, logins := range map[string]map[string]db.Role{masterDSN: atMaster, siteDSN: atSite} {
				store, err := db.Open(ctx, db.Config{DSN: dsn})
				if err != nil {
					return err
				}
				defer store.Close()
				for login, group := range logins {
					if err := store.CreateLogin(ctx, login, group, password, db.Act{User: "test"}); err != nil {
						return err
					}
				}
				if dsn == masterDSN {
					if err := store.InitHead(ctx, time.Now()); err != nil {
						return err
					}
				}
			}
			for variable, value := range map[string]string{
				"PUBLISHER": as(masterDSN, "script_publisher"), "REPLICA": as(masterDSN, "script_replica"), "SYNC": as(siteDSN, "script_sync"),
				"EMPTY": as(siteServer.DSN("empty_"+name), "script_sync"), "MASTER_ADMIN": freeAddr(), "SITE_ADMIN": freeAddr(),
				"GORACE": "atexit_sleep_ms=0",
			} {
				env.Setenv(variable, value)
			}
			env.Setenv("MASTER_DSN", masterDSN)
			env.Setenv("SITE_DSN", siteDSN)
			if err := feedKeys(env); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "pw"), []byte(password+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"expand": expand, "awaits": awaits, "hangup": hangup, "publishes": publishes, "pins": pins, "unpins": unpins,
		},
	})
}

// as is dsn with another user and no password.
func as(dsn, user string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(err)
	}
	u.User = url.User(user)
	return u.String()
}

func freeAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// expand FILE...: puts the environment into files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// awaits URL TEXT: polls URL until its body holds TEXT.
func awaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaits URL TEXT")
	}
	var last string
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(args[0])
		if err != nil {
			last = err.Error()
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if last = fmt.Sprintf("%s %s", response.Status, body); err == nil && strings.Contains(last, args[1]) {
			return
		}
	}
	ts.Fatalf("%s never held %q; last: %s", args[0], args[1], last)
}

// hangup sends SIGHUP to all programs in the background.
func hangup(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.BackgroundCmds()
	if neg || len(args) != 0 || len(running) == 0 {
		ts.Fatalf("usage: hangup, with a program in the background")
	}
	for _, cmd := range running {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}
