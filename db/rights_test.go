package db_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the live database gives to anybody but its owners is what rights.txt says.
func TestRightsAreThoseOfTheMatrix(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		dsn := dbtest.New(t, role)
		drift := func() (extra, missing []string) {
			t.Helper()
			live, err := open(t, dsn).Rights(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return migrations.Drift(role, live)
		}
		if extra, missing := drift(); len(extra)+len(missing) > 0 {
			t.Errorf("%s: beyond the matrix %q, missing %q", role, extra, missing)
		}
		dbtest.Exec(t, dsn, `grant execute on function ocsp_internal.length_prefixed to public; grant select on public.certificate to ocsp_owner, public;
			grant update (serial) on certificate to ocsp_ca; revoke select on public.issuer from ocsp_operator`)
		extra, missing := drift()
		want := "function ocsp_internal.length_prefixed execute PUBLIC,table public.certificate select PUBLIC,table public.certificate update(serial) ocsp_ca"
		if strings.Join(extra, ",") != want || strings.Join(missing, ",") != "table public.issuer select ocsp_operator" {
			t.Errorf("%s: after a superuser's grants: beyond %q, missing %q", role, extra, missing)
		}
		if err := migrations.SetRights(t.Context(), dsn, role); err != nil {
			t.Fatal(err)
		}
		if extra, missing := drift(); len(extra)+len(missing) > 0 {
			t.Errorf("%s: after SetRights beyond the matrix %q, missing %q", role, extra, missing)
		}
	}
}

// The feed was forged with these: any login hung them on a table of its own.
func TestTriggerFunctionsServeTheirTablesAlone(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		dsn := dbtest.New(t, role)
		conn := dbtest.Connect(t, dsn)
		var functions []string
		if err := conn.QueryRow(t.Context(), `select array(select oid::regproc::text from pg_proc
			where pronamespace in ('public'::regnamespace, 'ocsp_internal'::regnamespace) and prorettype = 'trigger'::regtype and prosecdef)`).Scan(&functions); err != nil || len(functions) == 0 {
			t.Fatal(functions, err)
		}
		for _, function := range functions {
			dbtest.Exec(t, dsn, "drop table if exists foreign_row; create table foreign_row (issuer_id int, serial bytea, not_after timestamptz, revoked_at timestamptz, reason smallint)")
			transitions := map[bool]string{true: " referencing new table as newt"}[strings.HasSuffix(function, "_inserted")]
			level := map[bool]string{true: "statement", false: "row"}[strings.HasSuffix(function, "ed") || strings.HasSuffix(function, "noted")]
			when := "after insert"
			switch {
			case strings.HasSuffix(function, "_updated"):
				transitions, when = " referencing old table as oldt new table as newt", "after update"
			case strings.HasSuffix(function, "_deleted"):
				transitions, when = " referencing old table as oldt", "after delete"
			}
			dbtest.Exec(t, dsn, "insert into foreign_row (issuer_id, serial, not_after) values (1, '\\x01', '2030-01-01Z')")
			dbtest.Exec(t, dsn, "create trigger attack "+when+" on foreign_row"+transitions+" for each "+level+" execute function "+function+"()")
			var err error
			for _, sql := range []string{"insert into foreign_row (issuer_id, serial, not_after) values (1, '\\x02', '2030-01-01Z')", "update foreign_row set not_after = '2031-01-01Z'", "delete from foreign_row"} {
				if _, err = conn.Exec(t.Context(), sql); err != nil {
					break
				}
			}
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || !strings.Contains(pg.Message, "not for table") {
				t.Errorf("%s: %s on a foreign table: %v", role, function, err)
			}
		}
	}
}

// No login of a site's groups belongs at the master, and none of the master's at a site:
// they have no right there, not even to connect.
func TestGroupsOfTheOtherEndHaveNothing(t *testing.T) {
	dsn := map[migrations.Role]string{migrations.Master: dbtest.New(t, migrations.Master), migrations.Site: dbtest.New(t, migrations.Site)}
	for there, groups := range map[migrations.Role][]db.Role{
		migrations.Master: {db.RoleResponder, db.RoleSync, "ocsp_subscriber"},
		migrations.Site:   {db.RoleCA, db.RolePublisher, db.RoleReplica},
	} {
		for _, group := range groups {
			var may []string
			if err := dbtest.Connect(t, dsn[there]).QueryRow(t.Context(), `with n as (select oid from pg_namespace where nspname in ('public', 'ocsp_internal')),
				  c as materialized (select c.oid, relkind from pg_class c join n on n.oid = relnamespace where relkind in ('r', 'v', 'S'))
				select array(select 'database' where has_database_privilege($1, current_database(), 'connect, create, temporary')
				  union all select 'schema '||oid::regnamespace from n where has_schema_privilege($1, oid, 'usage, create')
				  union all select 'relation '||oid::regclass from c where case relkind
				    when 'S' then has_sequence_privilege($1, oid, 'usage, select, update')
				    else has_table_privilege($1, oid, 'select, insert, update, delete, truncate, references, trigger') or has_any_column_privilege($1, oid, 'select, insert, update, references') end
				  union all select 'function '||p.oid::regprocedure from pg_proc p join n on n.oid = pronamespace where has_function_privilege($1, p.oid, 'execute'))`, group).Scan(&may); err != nil {
				t.Fatal(err)
			}
			if len(may) > 0 {
				t.Errorf("%s, at the %s, has rights on %q", group, there, may)
			}
			if group == "ocsp_subscriber" {
				continue // nobody logs in with it
			}
			err := open(t, dsn[there]).CreateLogin(t.Context(), "wrong_end", group, "a-good-password", db.Act{})
			if err == nil || !strings.Contains(err.Error(), "may not even connect") {
				t.Errorf("%s, at the %s: a login is made: %v", group, there, err)
			}
			dbtest.Exec(t, dsn[there], fmt.Sprintf("create role wrong_end login password 'a-good-password' in role %s", group))
			store := open(t, loginDSN(t, dsn[there], "wrong_end", "a-good-password"))
			err = store.AwaitSchema(t.Context(), string(there), slog.New(slog.DiscardHandler), func(string) {}) // a daemon gives up at once
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != "42501" || !strings.Contains(err.Error(), "permission denied for database") {
				t.Errorf("%s, at the %s: a login connects: %v", group, there, err)
			}
			dbtest.Exec(t, dsn[there], "drop role wrong_end")
		}
	}
}

// Whoever may log in has no table of its own to hang a trigger on, and may call no
// trigger function.
func TestNoLoginMakesTablesAtTheMaster(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	for _, role := range []string{"ocsp_ca", "ocsp_operator", "ocsp_publisher", "ocsp_replica"} {
		conn := dbtest.Connect(t, dbtest.As(dsn, role))
		for _, sql := range []string{
			"create temp table c (like public.certificate)",
			"create table public.c (like public.certificate)",
			"create table ocsp_internal.c (like public.certificate)",
			"select ocsp_internal.site_deleted()", "select ocsp_internal.head_advance()",
		} {
			_, err := conn.Exec(t.Context(), sql)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || (pg.Code != "42501" && pg.Code != "42883") {
				t.Errorf("%s: %s: want permission denied, got %v", role, sql, err)
			}
		}
	}
}

// Recounts, exports and looks, by the rights of each role alone. That the others work so,
// too, show the kits: index (ocsp_responder follows), pull and logical (ocsp_sync and
// ocsp_replica seed and apply), feed (ocsp_publisher seals and makes snapshots).
func TestEachRoleDoesItsWork(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01", "02")
	mustRevoke(t, store, db.ReasonKeyCompromise, "01")
	ctx := t.Context()
	work := map[string]func(*masterdb.DB) error{
		"recount":      func(s *masterdb.DB) error { _, err := s.Verify(ctx); return err },
		"rights":       func(s *masterdb.DB) error { _, err := s.Rights(ctx); return err },
		"log":          func(s *masterdb.DB) error { _, err := s.VerifyLog(ctx); return err },
		"audit":        func(s *masterdb.DB) error { _, err := s.VerifyAudit(ctx, nil, func(int64) {}); return err },
		"export":       func(s *masterdb.DB) error { _, err := s.Export(ctx, 1, masterdb.ExportCSV, io.Discard); return err },
		"state":        func(s *masterdb.DB) error { _, err := s.MasterState(ctx); return err },
		"schema":       func(s *masterdb.DB) error { return s.CheckSchema(ctx, "master") },
		"schema, site": func(s *masterdb.DB) error { return s.CheckSchema(ctx, "site") },
	}
	for database, roles := range map[string]map[string][]string{
		dsn: {
			"ocsp_operator": {"recount", "rights", "log", "audit", "export", "state", "schema"}, "ocsp_publisher": {"recount", "rights", "schema"},
			"ocsp_ca": {"export", "rights", "schema"},
		},
		dbtest.New(t, migrations.Site): {
			"ocsp_sync": {"rights", "schema, site"}, "ocsp_responder": {"rights", "schema, site"}, "ocsp_operator": {"rights", "schema, site"},
		},
	} {
		for role, all := range roles {
			s := open(t, dbtest.As(database, role))
			for _, what := range all {
				if err := work[what](s); err != nil {
					t.Errorf("%s: %s: %v", role, what, err)
				}
			}
		}
	}
}
