package db_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
)

// No name of a constraint reaches a person: each has a sentence.
func TestEveryConstraintHasASentence(t *testing.T) {
	seen := map[string]bool{}
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		conn := dbtest.Connect(t, dbtest.New(t, role))
		rows, err := conn.Query(t.Context(), `
			select conname, conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint
			where connamespace::regnamespace::text in ('public', 'ocsp_internal') and contype <> 't'
			union select c.relname, indrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index join pg_class c on c.oid = indexrelid
			where indisunique and c.relnamespace::regnamespace::text in ('public', 'ocsp_internal')
			order by 1`)
		if err != nil {
			t.Fatal(err)
		}
		var name, table, definition string
		n := 0
		if _, err := pgx.ForEachRow(rows, []any{&name, &table, &definition}, func() error {
			n++
			seen[name] = true
			if !hasSentence(table[strings.LastIndex(table, ".")+1:], name) {
				t.Errorf("%s: %s of %s has no sentence: %s", role, name, table, definition)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n < 10 {
			t.Errorf("%s: %d constraints were looked at", role, n)
		}
	}
	for name := range pg.Sentences {
		if !seen[name] {
			t.Errorf("%s has a sentence and is no constraint", name)
		}
	}
}

// What the database refuses by a rule of its own is said in words, with the fix.
func TestRefusalsAreSentences(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, _ := staff(t, dsn, store)
	ctx := t.Context()
	mustIssue(t, store, "01")
	old := testIssuer(2)
	old.Policy.HTTPMaxAge = 100 * time.Hour
	again := testIssuer(1)
	again.Key[31]++
	for name, do := range map[string]func() error{
		"long ago": func() error {
			_, _, err := store.Revoke(ctx, 1, db.Serial{1}, db.ReasonNone, time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC), act)
			return err
		},
		"in the future": func() error {
			_, _, err := store.Revoke(ctx, 1, db.Serial{1}, db.ReasonNone, time.Now().Add(time.Hour), act)
			return err
		},
		"no reason": func() error {
			_, _, err := store.Revoke(ctx, 1, db.Serial{1}, db.Reason(7), time.Time{}, act)
			return err
		},
		"a long serial": func() error {
			_, err := store.Issue(ctx, 1, make(db.Serial, 21), year, act)
			return err
		},
		"no such issuer": func() error {
			_, err := store.Issue(ctx, 9, db.Serial{1}, year, act)
			return err
		},
		"a policy": func() error {
			_, err := store.AddIssuer(ctx, old, act)
			return err
		},
		"a name twice": func() error {
			_, err := store.AddIssuer(ctx, again, act)
			return err
		},
		"no superuser": func() error {
			_, err := anna.SetLimit(ctx, 7, act)
			return err
		},
	} {
		err := do()
		refusal := (*db.Refusal)(nil)
		if !errors.As(err, &refusal) {
			t.Errorf("%s: %v is no refusal", name, err)
			continue
		}
		for _, raw := range []string{"SQLSTATE", "violates", "constraint", "relation", "_check", "_key", "_fkey", "permission denied for"} {
			if strings.Contains(err.Error(), raw) {
				t.Errorf("%s: %v: %q is PostgreSQL's", name, err, raw)
			}
		}
		t.Log(err)
	}
}

func hasSentence(table, constraint string) bool {
	s, known := pg.SentenceOf(table, constraint)
	return known && s.Text != ""
}
