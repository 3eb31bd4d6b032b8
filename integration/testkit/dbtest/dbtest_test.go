package dbtest_test

import (
	"testing"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

func TestEachDatabaseIsFreshAndMigrated(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		t.Run(string(role), func(t *testing.T) {
			for range 2 {
				dsn := dbtest.New(t, role)
				var tables int
				const migrated = "select count(*) from pg_class where relname in ('certificate', 'issuer', 'feed_head') and relkind = 'r'"
				if err := dbtest.Connect(t, dsn).QueryRow(t.Context(), migrated).Scan(&tables); err != nil {
					t.Fatal(err)
				}
				if tables != 3 {
					t.Errorf("%d of 3 tables", tables)
				}
				dbtest.Exec(t, dsn, "create table left_behind()") // the next one must not have it
			}
		})
	}
}

func TestAsHasTheRightsOfTheRole(t *testing.T) {
	conn := dbtest.Connect(t, dbtest.As(dbtest.New(t, migrations.Site), "ocsp_responder"))
	if _, err := conn.Exec(t.Context(), "select count(*) from certificate"); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), "delete from certificate"); err == nil {
		t.Error("ocsp_responder may delete")
	}
}

func TestClusterDiesAlone(t *testing.T) {
	s := dbtest.Cluster(t, map[string]string{"work_mem": "5MB"})
	dsn := dbtest.Migrated(t, s, "mine", migrations.Master)
	var workMem string
	if err := dbtest.Connect(t, dsn).QueryRow(t.Context(), "show work_mem").Scan(&workMem); err != nil || workMem != "5MB" {
		t.Errorf("work_mem = %q, %v", workMem, err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if dbtest.Server(t).PID() == 0 {
		t.Error("the shared server died too")
	}
}
