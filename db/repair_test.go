package db_test

import (
	"bytes"
	"io"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// Somebody drops or changes what is ours: it is named, and put back.
func TestSchemaDriftIsNamedAndRepaired(t *testing.T) {
	if testing.Short() {
		t.Skip("changes each part of a schema")
	}
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		t.Run(string(role), func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.New(t, role)
			dbtest.Exec(t, dsn, hostile)
			both := []struct{ sql, drift string }{
				{"alter table certificate drop constraint certificate_pkey cascade", "constraint certificate_pkey on public.certificate is gone"},
				{"drop index snapshot_place", "index snapshot_place on ocsp_internal.snapshot is gone"},
				{"alter table issuer alter refresh drop default, alter crl_url drop not null", "column crl_url on public.issuer lacks not null"},
				{"alter table issuer drop constraint issuer_check, add constraint issuer_check check (validity > 0)", "constraint issuer_check on public.issuer is ((validity > 0)), not ((((max_staleness >= 60) AND"},
				{"create or replace function ocsp_internal.mod64(n numeric) returns numeric language sql immutable return 0", "function ocsp_internal.mod64(numeric) is not this program's"},
				{"alter table issuer enable row level security", "table public.issuer is with row security"},
			}
			cases := append(map[migrations.Role][]struct{ sql, drift string }{
				migrations.Master: {
					{"alter table responder_certificate disable trigger all", "constraint responder_certificate_issuer_id_serial_fkey on public.responder_certificate is switched off"},
					{"drop trigger guard on certificate", "trigger guard on public.certificate is gone"},
					{"alter table pending_change disable trigger z_head", "trigger z_head on ocsp_internal.pending_change is switched off"},
					{"drop function certificate_hold", "function public.certificate_hold("},
					{"drop view ocsp_internal.change cascade", "view ocsp_internal.change is gone"},
				},
				migrations.Site: {
					{"alter table certificate set unlogged", "table public.certificate is without a log, not logged"},
					{"drop trigger site_remember on certificate; alter table certificate alter reason type int", "column reason on public.certificate is integer, not smallint"},
					{"drop trigger site_touch on certificate", "trigger site_touch on public.certificate is gone"},
					{"alter table certificate disable trigger site_deleted", "trigger site_deleted on public.certificate is switched off, not always"},
					{"alter table feed_head enable trigger site_notify", "trigger site_notify on public.feed_head lacks always"},
					{"drop function ocsp_internal.site_remember() cascade", "function ocsp_internal.site_remember() is gone"},
					{"drop sequence ocsp_internal.site_seq cascade", "sequence ocsp_internal.site_seq is gone"},
					{"alter table certificate drop site_seq", "column site_seq on public.certificate is gone"},
					{"drop table segment", "table ocsp_feed.segment is gone"},
				},
			}[role], both...)
			for _, c := range cases {
				dbtest.Exec(t, dsn, "set transaction read write; "+c.sql)
				drift, _ := migrations.SchemaDrift(role, shape(t, dsn))
				if !slices.ContainsFunc(drift, func(d string) bool { return strings.HasPrefix(d, c.drift) }) {
					t.Errorf("%s: drift %q does not say %q", c.sql, drift, c.drift)
				}
			}
			done, err := migrations.Repair(t.Context(), dsn, role)
			if err != nil || len(done.Refused) > 0 || len(done.Done) < len(cases) {
				t.Errorf("%+v, %v", done, err)
			}
			if drift, foreign := migrations.SchemaDrift(role, shape(t, dsn)); len(drift)+len(foreign) > 0 {
				t.Fatalf("after the repair drift %q, foreign %q", drift, foreign)
			}
			live, err := open(t, dsn).Rights(t.Context())
			if extra, missing := migrations.Drift(role, live); err != nil || len(extra)+len(missing) > 0 {
				t.Errorf("after the repair rights beyond %q, missing %q, %v", extra, missing, err)
			}
		})
	}
}

// What a dropped key let in, and what stood in a dropped column: the rows of a site come
// again, those of the master are nobody's to throw away.
func TestRepairLosesNoRowOfTheMaster(t *testing.T) {
	if testing.Short() {
		t.Skip("damages twelve databases, one after another")
	}
	t.Parallel()
	const twice = `
		set session_replication_role = replica; alter table certificate drop constraint certificate_pkey cascade;
		insert into certificate (issuer_id, serial, not_after) values (1, '\x0a', '2099-01-01Z'), (1, '\x0a', '2098-01-01Z')`
	for _, c := range []struct {
		name    string
		role    migrations.Role
		sql     string
		refused string // empty: nothing, and the copy is emptied
	}{
		{"a row twice", migrations.Site, twice, ""},
		{"a column", migrations.Site, "insert into site_state values (1, 0) on conflict do nothing; alter table certificate drop not_after", ""},
		{"a memory twice", migrations.Site, `alter table site_revoked drop constraint site_revoked_pkey;
			insert into site_revoked select 1, '\x0a', '2026-01-01Z', 1 from generate_series(1, 2)`, `(issuer_id, serial, revoked_at, reason)=(1, \x0a,`},
		{"a row twice", migrations.Master, twice, `Key (issuer_id, serial)=(1, \x0a) is duplicated.: take away`},
		{"a column", migrations.Master, "alter table issuer drop archive_cutoff cascade", "column archive_cutoff on public.issuer: it is gone with what stood in it: restore the master"},
		{"a table", migrations.Master, "drop table audit cascade", "table ocsp_internal.audit: it is gone with what stood in it: restore the master"},
	} {
		t.Run(string(c.role)+", "+c.name, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.New(t, c.role)
			dbtest.Exec(t, dsn, c.sql)
			done, err := migrations.Repair(t.Context(), dsn, c.role)
			if err != nil {
				t.Fatal(err)
			}
			drift, _ := migrations.SchemaDrift(c.role, shape(t, dsn))
			if c.refused == "" {
				if len(done.Refused)+len(drift) > 0 || !slices.Equal(done.Emptied, []string{"public.certificate"}) {
					t.Errorf("%+v; drift %q", done, drift)
				}
				return
			}
			if !slices.ContainsFunc(done.Refused, func(r string) bool { return strings.Contains(r, c.refused) }) || len(done.Emptied) > 0 || len(drift) == 0 {
				t.Errorf("%+v; drift %q", done, drift)
			}
		})
	}
}

// A dump that is restored is worded otherwise and is the same; a partner's own tables and
// indexes are no drift, his triggers and keys on ours are told.
func TestWhatIsNoSchemaDrift(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		again := restored(t, dbtest.New(t, role))
		dbtest.Exec(t, again, `create table partner (id int primary key); create index partner_end on certificate (not_after); alter table issuer add partner text;
			create function partner() returns trigger language plpgsql as $$ begin return new; end $$`)
		if drift, foreign := migrations.SchemaDrift(role, shape(t, again)); len(drift)+len(foreign) > 0 {
			t.Errorf("%s: drift %q, foreign %q", role, drift, foreign)
		}
		dbtest.Exec(t, again, `create trigger partner before insert on certificate for each row execute function partner();
			alter table issuer add needed text not null; create unique index partner_once on issuer (backdate); create rule partner as on delete to issuer do instead nothing`)
		drift, foreign := migrations.SchemaDrift(role, shape(t, again))
		if len(drift) > 0 || len(foreign) != 4 {
			t.Errorf("%s: drift %q, foreign %q", role, drift, foreign)
		}
	}
}

// restored is a database that a dump of another was restored into.
func restored(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path += "_restored"
	dbtest.Exec(t, dsn, "create database "+u.Path[1:]+" template template0")
	var stderr strings.Builder
	run := func(stdin io.Reader, name string, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Stdin, cmd.Stderr = stdin, &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, &stderr)
		}
		return out
	}
	dump := run(nil, "pg_dump", "--dbname", dsn)
	run(bytes.NewReader(dump), "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "--dbname", u.String())
	return u.String()
}
