package db_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

var update = flag.Bool("update", false, "write migrations/ROLE/schema.txt anew")

func shape(t *testing.T, dsn string) []string {
	t.Helper()
	lines, err := open(t, dsn).Shape(t.Context(), migrations.ShapeSQL, migrations.FactLine)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// What the migrations make is what schema.txt says, whatever settings a database has.
func TestSchemaIsThatOfTheMigrations(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		dsn := dbtest.New(t, role)
		dbtest.Exec(t, dsn, hostile)
		live := shape(t, dsn)
		slices.Sort(live)
		if *update {
			if err := os.WriteFile(filepath.Join("..", "migrations", string(role), "schema.txt"), []byte(strings.Join(live, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		drift, foreign := migrations.SchemaDrift(role, live)
		if len(drift)+len(foreign) > 0 {
			t.Errorf("%s: drift %q, foreign %q\nafter a change of the migrations: go test ./db -run TestSchemaIsThatOfTheMigrations -update", role, drift, foreign)
		}
	}
}
