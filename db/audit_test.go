package db_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// newAudited gives a master whose audit has ten entries: the issuer and nine certificates.
func newAudited(t *testing.T) (dsn string, store *masterdb.DB) {
	t.Helper()
	dsn, store = newMaster(t)
	for n := range byte(9) {
		if _, err := store.Issue(t.Context(), 1, db.Serial{n + 1}, year, act); err != nil {
			t.Fatal(err)
		}
	}
	return dsn, store
}

func verifyAudit(t *testing.T, store *masterdb.DB, marks ...auditchain.Mark) auditchain.Report {
	t.Helper()
	report, err := store.VerifyAudit(t.Context(), marks, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestAuditOfNoEntryIsWhole(t *testing.T) {
	store := open(t, dbtest.New(t, migrations.Master))
	if _, err := store.VerifyAudit(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "no head row") {
		t.Errorf("a master without a head: %v", err)
	}
	if err := store.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if r := verifyAudit(t, store); r.Entries != 0 || r.Faults != nil {
		t.Errorf("got %+v", r)
	}
}

// rechain gives all entries from the first one on the hashes that their contents
// ask for: what the one who tampers does when he knows how the chain is made.
const rechain = `; do $$ declare a audit; h bytea; begin
	select coalesce((select hash from audit where n < %[1]d order by n desc limit 1), sha256('')) into h;
	for a in select * from audit where n >= %[1]d order by n loop
	  h := sha256(h || audit_canonical(a)); update audit set hash = h where n = a.n; end loop; end $$`

func TestAuditTamperingIsFoundAndTheRowNamed(t *testing.T) {
	insert := func(n string) string {
		return `insert into audit (n, os_user, act, what, why, position, hash) values (` + n + `, 'x', 'cert issue', '{}', '', 1, '\x00')`
	}
	for _, c := range []struct {
		name, sql string
		want      []string // per fault: entry and a part of the text
	}{
		{"nothing", "select 1", nil},
		{"who", "update audit set os_user = 'innocent' where n = 4", []string{"4 its hash is not that of its content"}},
		{"when", "update audit set at = at + interval '1 us' where n = 1", []string{"1 its hash is not that of its content"}},
		{"what", `update audit set what = what || '{"x":1}' where n = 10`, []string{"10 its hash is not that of its content"}},
		{"where", "update audit set position = position + 1 where n = 5", []string{"5 its hash is not"}},
		{"hash alone", `update audit set hash = sha256('x') where n = 3`, []string{"3 its hash is not", "4 its hash is not"}},
		{"one with its hash", "update audit set why = 'other' where n = 5" + strings.Replace(fmt.Sprintf(rechain, 5), "n >= 5", "n = 5", 1), []string{"6 its hash is not that of its content after entry 5"}},
		{"all from one on", "update audit set why = 'other' where n = 5" + fmt.Sprintf(rechain, 5), []string{"10 ends the chain with hash"}},
		{"deleted first", "delete from audit where n = 1", []string{"1 is missing: it was deleted"}},
		{"deleted within", "delete from audit where n between 4 and 6", []string{"4 is missing, with all up to entry 6"}},
		{"deleted end", "delete from audit where n >= 9", []string{"9 is missing, with all up to entry 10"}},
		{"deleted all", "delete from audit", []string{"1 is missing, with all up to entry 10"}},
		{"deleted and closed up", "delete from audit where n = 4; update audit set n = n - 1 where n in (5, 6, 7, 8, 9); update audit set n = 9 where n = 10" + fmt.Sprintf(rechain, 4), []string{"10 is missing"}},
		{"without a place", insert("null"), []string{"0 has no place in the chain"}},
		{"beyond", insert("11"), []string{"11 lies beyond the head"}},
		{"before", insert("0"), []string{"0 stands in the place of row 0"}},
		{"in a place taken", "alter table audit drop constraint audit_n_key; " + insert("7"), []string{"7 stands in the place of row"}},
		{"without a hash", "update audit set hash = null where n = 2", []string{"2 has no hash"}},
		{"two apart", "update audit set why = 'x' where n in (2, 8)", []string{"2 its hash", "8 its hash"}},
		{"head alone", "update feed_head set audit_hash = sha256('x')", []string{"10 ends the chain with hash"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dsn, store := newAudited(t)
			dbtest.Exec(t, dsn, "set session_replication_role = replica; "+c.sql) // as a superuser passes the triggers
			report := verifyAudit(t, store)
			var got []string
			for _, f := range report.Faults {
				got = append(got, fmt.Sprintf("%d %s", f.N, f.Text))
			}
			if len(got) != len(c.want) {
				t.Fatalf("got  %q\nwant %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got  %q\nwant %q", got[i], want)
				}
			}
		})
	}
}

// A DBA who writes all anew, the head too, is found by who noted a mark before,
// as every site does with each head that it receives.
func TestAuditWrittenAnewIsFoundByAMark(t *testing.T) {
	dsn, store := newAudited(t)
	before := verifyAudit(t, store).Head
	if before.N != 10 || len(before.Hash) != 32 {
		t.Fatalf("the mark is %+v", before)
	}
	if _, err := store.Issue(t.Context(), 1, db.Serial{99}, year, act); err != nil {
		t.Fatal(err)
	}
	if r := verifyAudit(t, store, before); r.Faults != nil {
		t.Errorf("an old mark of a whole chain: %+v", r.Faults)
	}
	dbtest.Exec(t, dsn, "set session_replication_role = replica; update audit set why = 'other' where n = 5"+fmt.Sprintf(rechain, 5)+
		"; update feed_head set audit_hash = (select hash from audit order by n desc limit 1)")
	if r := verifyAudit(t, store); r.Faults != nil {
		t.Errorf("the rewritten chain does not hang together: %+v", r.Faults)
	}
	r := verifyAudit(t, store, before)
	if len(r.Faults) != 1 || r.Faults[0].N != 10 || !strings.Contains(r.Faults[0].Text, "the mark says") {
		t.Errorf("got %+v", r.Faults)
	}
	r = verifyAudit(t, store, auditchain.Mark{N: 77, Hash: before.Hash})
	if len(r.Faults) != 1 || r.Faults[0].N != 77 {
		t.Errorf("a mark beyond the end: %+v", r.Faults)
	}
}

func TestAuditFaultsAreBounded(t *testing.T) {
	dsn, store := newMaster(t)
	dbtest.Exec(t, dsn, "set session_replication_role = replica; insert into audit (os_user, act, what, why) select 'x', 'y', '{}', '' from generate_series(1, 250)")
	if r := verifyAudit(t, store); len(r.Faults) != 100 || r.More != 150 || r.Entries != 251 {
		t.Errorf("got %d faults, %d more, of %d entries", len(r.Faults), r.More, r.Entries)
	}
}

// The chain in Go is the chain in SQL, whatever people write.
func TestAuditCanonicalBytesAreTheSameInSQLAndGo(t *testing.T) {
	dsn, store := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	text := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 0, 40, -1)
	var noted int64
	rapid.Check(t, func(r *rapid.T) {
		noted++
		_, err := store.Note(context.Background(), text.Draw(r, "act"), map[string]any{text.Draw(r, "key"): text.Draw(r, "what")},
			db.Act{User: text.Draw(r, "user"), Why: text.Draw(r, "why")})
		if err != nil {
			r.Fatal(err)
		}
	})
	if report := verifyAudit(t, store); report.Faults != nil || report.Entries < noted {
		t.Errorf("got %+v", report)
	}
	start := sha256.Sum256(nil)
	last := start[:]
	err := store.AuditEntries(t.Context(), masterdb.AuditFilter{}, func(e auditchain.Entry) error {
		canonical := auditchain.Append(nil, e)
		var sql []byte
		if err := conn.QueryRow(t.Context(), "select audit_canonical(a) from audit a where n = $1", e.N).Scan(&sql); err != nil {
			return err
		}
		if !bytes.Equal(canonical, sql) {
			return fmt.Errorf("entry %d: Go says %x, SQL %x", e.N, canonical, sql)
		}
		if sum := sha256.Sum256(append(last, canonical...)); !bytes.Equal(sum[:], e.Hash) {
			return fmt.Errorf("entry %d has hash %x", e.N, e.Hash)
		}
		last = e.Hash
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAuditEntriesAreChosen(t *testing.T) {
	_, store := newAudited(t)
	if _, err := store.Note(t.Context(), "certainly", nil, db.Act{User: "bob as root"}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, c := range []struct {
		filter masterdb.AuditFilter
		want   string
	}{
		{masterdb.AuditFilter{}, "1 2 3 4 5 6 7 8 9 10 11"},
		{masterdb.AuditFilter{Limit: 2}, "10 11"},
		{masterdb.AuditFilter{Act: "issuer add"}, "1"},
		{masterdb.AuditFilter{Act: "cert", Limit: 1}, "10"},
		{masterdb.AuditFilter{User: "tester", Limit: 1}, "10"},
		{masterdb.AuditFilter{User: "bob"}, "11"},
		{masterdb.AuditFilter{User: "postgres", Limit: 1}, "11"},
		{masterdb.AuditFilter{User: "nobody"}, ""},
		{masterdb.AuditFilter{Since: now}, ""},
		{masterdb.AuditFilter{Since: now.Add(-time.Hour), Until: now, Limit: 1}, "11"},
		{masterdb.AuditFilter{Until: now.Add(-time.Hour)}, ""},
	} {
		var got []string
		if err := store.AuditEntries(t.Context(), c.filter, func(e auditchain.Entry) error {
			got = append(got, fmt.Sprint(e.N))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.filter, diff)
		}
	}
}

// Acts that change no replicated row are chained as well.
func TestMakingALoginStandsInTheAudit(t *testing.T) {
	_, store := newMaster(t)
	if err := store.CreateLogin(t.Context(), "audited_login", db.RoleCA, "a-good-password", db.Act{User: "root", Why: "new CA"}); err != nil {
		t.Fatal(err)
	}
	found := false
	if err := store.AuditEntries(t.Context(), masterdb.AuditFilter{Act: "db user add"}, func(e auditchain.Entry) error {
		found = e.What == `{"kind": "service", "group": "ocsp_ca", "login": "audited_login", "connections": 32}` && e.OSUser == "root" && e.Why == "new CA"
		return nil
	}); err != nil || !found {
		t.Errorf("no entry says so: %v", err)
	}
	site := open(t, dbtest.New(t, migrations.Site)) // which has no chain
	if noted, err := site.Note(t.Context(), "x", nil, act); noted || err != nil {
		t.Errorf("at a site: %v, %v", noted, err)
	}
}

// BenchmarkVerifyAudit verifies 1,000,000 entries; goal: 10 s.
func BenchmarkVerifyAudit(b *testing.B) {
	const rows = 1_000_000
	dsn := dbtest.New(b, migrations.Master)
	store, err := masterdb.Open(b.Context(), pg.Config{DSN: dsn})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	if err := store.InitHead(b.Context(), time.Now()); err != nil {
		b.Fatal(err)
	}
	fill(b, dsn, rows)
	for b.Loop() {
		report, err := store.VerifyAudit(b.Context(), nil, nil)
		if err != nil || report.Entries != rows || report.Faults != nil {
			b.Fatalf("%+v, %v", report, err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// fill writes a chain past the triggers, which would take a head per entry.
func fill(b *testing.B, dsn string, rows int) {
	b.Helper()
	serial := hex.EncodeToString(make([]byte, 16))
	_, err := dbtest.Connect(b, dsn).Exec(b.Context(), fmt.Sprintf(`
		set session_replication_role = replica;
		insert into audit (n, db_role, os_user, act, what, why, position)
		  select n, 'ca', 'ca-software', 'cert issue', jsonb_build_object('issuer', 1, 'serial', '%s', 'not_after', clock_timestamp()), '', n
		  from generate_series(1, %d) n;
		do $$ declare a audit; h bytea := sha256(''); hashes bytea[]; begin
		  for a in select * from audit order by n loop
		    h := sha256(h || audit_canonical(a)); update audit set hash = h where id = a.id;
		  end loop;
		  update feed_head set audit_count = %d, audit_hash = h;
		end $$;`, serial, rows, rows))
	if err != nil {
		b.Fatal(err)
	}
}
