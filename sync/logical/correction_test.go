package logical_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/logical"
)

// staff are two operators at the master.
func (p *pair) staff() (anna, bert *dbtest.Database) {
	p.t.Helper()
	const password = "a password for tests"
	var persons [2]*dbtest.Database
	for i, name := range []string{"test_anna", "test_bert"} {
		if _, err := p.master.CreateLoginWith(p.t.Context(), name, db.RoleOperator, password, many, act); err != nil {
			p.t.Fatal(err)
		}
		persons[i] = openStore(p.t, login(p.t, p.masterDSN, name, password))
	}
	return persons[0], persons[1]
}

// agree makes what one operator requests and the other approves.
func (p *pair) agree(request func(anna *dbtest.Database) (int64, time.Time, error)) {
	p.t.Helper()
	anna, bert := p.staff()
	id, _, err := request(anna)
	if err == nil {
		err = p.second.Approve(p.t, bert.Master, id, act)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// correct takes a permanent revocation back, as two operators do.
func (p *pair) correct(s string) {
	p.t.Helper()
	p.agree(func(anna *dbtest.Database) (int64, time.Time, error) {
		return anna.Master.RequestCorrection(p.t.Context(), 1, []db.Serial{serial(s)}, act)
	})
}

// Certificates that were never issued, and a wrong end: the sites follow, by the
// stream and by a seed over rows that knew a revocation.
func TestMistakesOfAnImportAreCorrectedAtTheSite(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b", "0c", "0d")
	p.revoke("0b", db.ReasonKeyCompromise)
	p.revoke("0c", db.ReasonKeyCompromise)
	p.start(nil)
	p.seenAtSite("0c", "revoked keyCompromise")
	unissue := func(s ...string) {
		p.agree(func(anna *dbtest.Database) (int64, time.Time, error) {
			var list []db.Serial
			for _, text := range s {
				list = append(list, serial(text))
			}
			return anna.Master.RequestUnissue(t.Context(), 1, list, act)
		})
	}
	unissue("0a", "0b")
	p.seenAtSite("0a", "never issued")
	p.seenAtSite("0b", "never issued")
	end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	p.agree(func(anna *dbtest.Database) (int64, time.Time, error) {
		return anna.Master.RequestEnd(t.Context(), 1, []db.Serial{serial("0d")}, end, act)
	})
	p.until("the other end", func() bool {
		s, err := p.site.Certificate(t.Context(), 1, serial("0d"))
		return err == nil && s.NotAfter.Equal(end)
	})
	p.stopRun()
	p.dropSlots()
	unissue("0c")
	p.start(nil)
	p.seenAtSite("0c", "never issued")
	p.until("verified", p.verified)
}

func TestACorrectionReachesTheSiteByTheStreamAndByASeed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b")
	p.revoke("0a", db.ReasonKeyCompromise)
	p.revoke("0b", db.ReasonKeyCompromise)
	p.start(nil)
	p.seenAtSite("0b", "revoked keyCompromise")
	p.correct("0a")
	p.seenAtSite("0a", "good")
	// While the site is away; it is seeded anew over rows that say revoked.
	p.stopRun()
	p.dropSlots()
	p.correct("0b")
	p.start(nil)
	p.seenAtSite("0b", "good")
	counts, err := p.site.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if !c.Identical || c.Table == "correction" && c.Counted.Count != 2 {
			t.Errorf("at the site %+v", c)
		}
	}
}

// A master restored from a real backup: the site refuses it, keeps what it knows,
// and says what the master lost; once that is entered again, it follows.
func TestARestoredMasterIsRefusedUntilItsLostRevocationsAreEntered(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b", "0c")
	p.revoke("0b", db.ReasonSuperseded)
	backup := dumpOf(t, p.masterDSN)
	p.start(nil)
	p.seenAtSite("0b", "revoked superseded")
	p.revoke("0a", db.ReasonKeyCompromise) // after the backup
	p.issue("0d")                          // and so is this one
	p.revoke("0d", db.ReasonKeyCompromise)
	p.correct("0b")
	p.revoke("0b", db.ReasonKeyCompromise) // the site knows a later revocation of it
	p.seenAtSite("0a", "revoked keyCompromise")
	p.seenAtSite("0d", "revoked keyCompromise")
	p.stopRun()
	p.dropSlots()
	restore(t, p.masterDSN, backup)
	p.run(nil)
	p.reaches(logical.RevocationsLost)
	for _, serial := range []string{"0a", "0d"} {
		if got := p.siteSays(serial); got != "revoked keyCompromise" {
			t.Errorf("the site says %s of %s", got, serial)
		}
	}

	var known []masterdb.Row
	err := p.site.List(t.Context(), tables.Choice{Issuer: 1, Kind: tables.KindRevoked, Current: true}, func(_ db.IssuerID, serial db.Serial, s db.Status) error {
		known = append(known, masterdb.Row{Serial: append(db.Serial{}, serial...), Status: s})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := p.master.Master.Lost(t.Context(), 1, known)
	if err != nil {
		t.Fatal(err)
	}
	var serials []string
	for _, row := range lost {
		serials = append(serials, row.Serial.String())
	}
	if got := strings.Join(serials, " "); got != "0a 0b 0d" {
		t.Errorf("lost are %s", got)
	}
	p.correct("0b") // the backup has the revocation that was taken back: it is, once more
	if _, _, _, err := p.master.Master.ImportBatch(t.Context(), 1, lost, masterdb.ImportSource{Form: "site"}, act); err != nil {
		t.Fatal(err)
	}
	if _, err := p.master.Master.NewEpoch(t.Context(), time.Now().Add(time.Hour).Unix(), act); err != nil {
		t.Fatal(err)
	}
	p.heals()
	p.seenAtSite("0d", "revoked keyCompromise")
}

// dumpOf is what pg_dump makes of a database, its rows alone.
func dumpOf(t *testing.T, dsn string) string {
	t.Helper()
	return runTool(t, dsn, "", "pg_dump", "--data-only", "--exclude-table=schema_*")
}

// restore brings a database's rows back to what they were in the dump.
func restore(t *testing.T, dsn, dump string) {
	t.Helper()
	const empty = `do $$ begin
		execute 'truncate ' || (select string_agg(oid::regclass::text, ', ') from pg_class
			where relkind = 'r' and relnamespace in ('public'::regnamespace, 'ocsp_internal'::regnamespace) and not starts_with(relname, 'schema_'));
	end $$;`
	runTool(t, dsn, "begin; set session_replication_role = replica; "+empty+"\n"+dump+"\ncommit;", "psql", "-Xq", "-v", "ON_ERROR_STOP=1")
}

// runTool runs one of PostgreSQL's programs on a database.
func runTool(t *testing.T, dsn, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, append(args, "--dbname", dsn)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, stderr.String())
	}
	return string(out)
}

// Key sets come from the master's database, verified under the pinned root; without one
// no correction is believed, and the state says what is to be done.
func TestWithoutARootNoRevocationIsTakenBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.revoke("0a", db.ReasonKeyCompromise)
	p.start(func(c *logical.Config) { c.Root = nil })
	p.seenAtSite("0a", "revoked keyCompromise")
	p.stopRun()
	p.dropSlots()
	p.correct("0a")
	p.run(func(c *logical.Config) { c.Root = nil })
	p.reaches(logical.RevocationsLost)
	if detail := p.state().Detail; !strings.Contains(detail, "set feed.root in ocspsyncd.yaml and ocspd.yaml") {
		t.Errorf("the state says %q", detail)
	}
	if got := p.siteSays("0a"); got != "revoked keyCompromise" {
		t.Errorf("the site says %s", got)
	}
	if number, _, err := p.site.FeedKeys(t.Context()); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("key set %d is here, %v", number, err)
	}
	p.stopRun()
	p.start(nil)
	p.seenAtSite("0a", "good")
	_, signed, err := p.site.FeedKeys(t.Context())
	if err == nil {
		_, err = feed.OpenKeySet(signed, feedtest.Origin, p.second.Verifier(t))
	}
	if err != nil {
		t.Errorf("the key set here: %v", err)
	}
}
