package db_test

import (
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// A set of rows whose sums are right was found in 21 s; the log of changes tells of it.
func TestRowsAreComparedWithTheLog(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01", "02", "03", "04")
	mustRevoke(t, store, db.ReasonKeyCompromise, "01")
	dbtest.Exec(t, dsn, `delete from certificate where serial = '\x04'`)
	check := func(want map[string]string) {
		t.Helper()
		faults, err := store.VerifyLog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range faults {
			got[f.Table] += f.Why + "; "
		}
		if len(got) != len(want) {
			t.Errorf("got %v\nwant %v", got, want)
		}
		for table, why := range want {
			if got[table] != why {
				t.Errorf("%s: %q, want %q", table, got[table], why)
			}
		}
	}
	check(nil)
	for sql, want := range map[string]map[string]string{
		`update certificate set revoked_at = null, reason = null where serial = '\x01'`: {"certificate": "the row is not what the last change says; "},
		`delete from certificate where serial = '\x02'`:                                 {"certificate": "the row is gone, and no change says so; "},
		`insert into certificate values (1, '\x09', '2099-01-01Z')`:                     {"certificate": "the row came without a change; "},
		`insert into certificate values (1, '\x04', '2099-01-01Z')`:                     {"certificate": "the row is there, though the last change took it away; "},
		`update issuer set crl_url = 'http://forged.example/'`:                          {"issuer": "the row is not what the last change says; "},
	} {
		// The thief makes the head's sums fit, too: here simply by not being asked.
		dbtest.Exec(t, dsn, `create table if not exists kept as select * from certificate; create table if not exists kept_issuer as select * from issuer;
			set session_replication_role = replica; `+sql)
		check(want)
		dbtest.Exec(t, dsn, `set session_replication_role = replica; delete from certificate; insert into certificate select * from kept;
			delete from issuer; insert into issuer select * from kept_issuer`)
	}
	check(nil)
}
