package db_test

import (
	"log/slog"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// A database of before the baseline is refused by daemons and by what migrates, in the same
// words, which name the way out; nothing in it is touched.
func TestADatabaseFromBeforeTheBaselineIsRefusedWithTheWay(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		dsn := dbtest.New(t, role)
		before := shape(t, dsn)
		dbtest.Exec(t, dsn, `update schema_common set version = 2; update schema_`+string(role)+` set version = 3`)
		store := open(t, dsn)
		_, versions := migrations.Versions(t.Context(), dsn, role)
		_, repair := migrations.Repair(t.Context(), dsn, role)
		said := store.CheckSchema(t.Context(), string(role))
		if said == nil {
			t.Fatalf("%s: a daemon takes it", role)
		}
		for _, part := range []string{"schema common has version 2", "before v0.1.0", "ocspctl cert export", "make a new database", "ocspctl cert import"} {
			if !strings.Contains(said.Error(), part) {
				t.Errorf("%s: %q does not say %q", role, said, part)
			}
		}
		for name, err := range map[string]error{
			"start":    store.AwaitSchema(t.Context(), string(role), slog.New(slog.DiscardHandler), func(string) {}),
			"migrate":  migrations.Up(t.Context(), dsn, role),
			"repair":   repair,
			"versions": versions,
			"force":    migrations.Force(t.Context(), dsn, "common", 101),
		} {
			if err == nil || err.Error() != said.Error() {
				t.Errorf("%s: %s says %v, the daemons %v", role, name, err, said)
			}
		}
		if after := shape(t, dsn); strings.Join(after, "\n") != strings.Join(before, "\n") {
			t.Errorf("%s: the schema was changed", role)
		}
	}
}
