package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/script"
	"ocspfleet/migrations"

	"github.com/rogpeppe/go-internal/testscript"
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
				store, err := masterdb.Open(ctx, tables.Config{DSN: dsn})
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
				"PUBLISHER": script.As(masterDSN, "script_publisher"), "REPLICA": script.As(masterDSN, "script_replica"), "SYNC": script.As(siteDSN, "script_sync"),
				"EMPTY": script.As(siteServer.DSN("empty_"+name), "script_sync"), "MASTER_ADMIN": script.FreeAddr(), "SITE_ADMIN": script.FreeAddr(),
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
			"expand": script.Expand, "awaits": script.Awaits, "hangup": hangup, "publishes": publishes, "pins": pins, "unpins": unpins, "agree": agree, "issues": issues,
		},
	})
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
