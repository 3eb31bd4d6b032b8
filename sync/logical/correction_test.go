package logical_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/logical"
)

// correct takes a permanent revocation back, as two operators do.
func (p *pair) correct(serial string) {
	p.t.Helper()
	const password = "a password for tests"
	var persons [2]*db.Store
	for i, name := range []string{"test_anna", "test_bert"} {
		if err := p.master.CreateLogin(p.t.Context(), name, db.RoleOperator, password, act); err != nil {
			p.t.Fatal(err)
		}
		persons[i] = openStore(p.t, login(p.t, p.masterDSN, name, password))
	}
	s, err := db.ParseSerial(serial)
	if err != nil {
		p.t.Fatal(err)
	}
	id, _, err := persons[0].RequestCorrection(p.t.Context(), 1, []db.Serial{s}, act)
	if err == nil {
		err = persons[1].Approve(p.t.Context(), id, act)
	}
	if err != nil {
		p.t.Fatal(err)
	}
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

	var known []db.Row
	err := p.site.List(t.Context(), db.Choice{Issuer: 1, Kind: db.KindRevoked, Current: true}, func(_ db.IssuerID, serial db.Serial, s db.Status) error {
		known = append(known, db.Row{Serial: append(db.Serial{}, serial...), Status: s})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := p.master.Lost(t.Context(), 1, known)
	if err != nil {
		t.Fatal(err)
	}
	var serials []string
	for _, row := range lost {
		serials = append(serials, row.Serial.String())
	}
	if got := strings.Join(serials, " "); got != "0a 0d" {
		t.Errorf("lost are %s", got)
	}
	if _, _, _, err := p.master.ImportBatch(t.Context(), 1, lost, db.ImportSource{Form: "site"}, act); err != nil {
		t.Fatal(err)
	}
	if err := p.master.NewEpoch(t.Context(), time.Now().Add(time.Hour).Unix(), act); err != nil {
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
	const tables = "issuer, certificate, responder_certificate, correction, feed_head, change_body, change_note, change_tx, heartbeat, audit, responder, responder_key, limits, revocation_tally, approval"
	runTool(t, dsn, "begin; set session_replication_role = replica; truncate "+tables+";\n"+dump+"\ncommit;", "psql", "-Xq", "-v", "ON_ERROR_STOP=1")
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
