package db_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ocspfleet/db/dbtest"
	"ocspfleet/migrations"
)

// What the migrations make, their downs take away again, in the opposite order.
func TestDownsUndoTheUps(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		dsn := dbtest.New(t, role)
		for _, folder := range []string{string(role), "common"} {
			files, err := filepath.Glob(filepath.Join("..", "migrations", folder, "*.down.sql"))
			if err != nil || len(files) == 0 {
				t.Fatal(folder, files, err)
			}
			slices.Reverse(files)
			for _, file := range files {
				sql, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				dbtest.Exec(t, dsn, string(sql))
			}
		}
		var left []string
		err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select array(
			select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S') and relname !~ '^schema_'
			union all select proname::text from pg_proc where pronamespace = 'public'::regnamespace)`).Scan(&left)
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left over are %q (%v)", role, left, err)
		}
	}
}
