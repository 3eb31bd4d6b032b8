package db_test

import (
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
)

// Revocations and rows that are no certificate are sealed at once, all else is gathered: the
// triggers say which a transaction has.
func TestUrgentIsWhatTheTriggersSay(t *testing.T) {
	dsn, store := newMaster(t)
	publisher := dbtest.Open(t, dsn).Publisher
	mustIssue(t, store, "01", "02", "03", "04")
	for _, c := range []struct {
		name, sql string
		urgent    bool
	}{
		{"issue", `insert into certificate values (1, '\x11', '2099-01-01Z'), (1, '\x12', '2099-01-01Z')`, false},
		{"issue one revoked among good ones", `insert into certificate values (1, '\x21', '2099-01-01Z', null, null), (1, '\x22', '2099-01-01Z', '2020-01-01Z', 1)`, true},
		{"hold", `update certificate set revoked_at = '2020-01-01Z', reason = 6 where serial = '\x01'`, true},
		{"release", `update certificate set revoked_at = null, reason = null where serial = '\x01'`, false},
		{"revoke", `update certificate set revoked_at = '2020-01-01Z', reason = 1 where serial = '\x02'`, true},
		{"a later end of a good one", `update certificate set not_after = '2099-01-01Z' where serial = '\x03'`, false},
		{"a later end of a revoked one", `update certificate set not_after = '2099-01-01Z' where serial = '\x02'`, true},
		{"a good one changes, a revoked one does not", `update certificate set not_after = '2099-01-02Z' where serial = '\x03' or serial = '\x02' and not_after > '2100-01-01Z'`, false},
		{"delete", `delete from certificate where serial = '\x04'`, false},
		{"delete and insert again", `with d as (delete from certificate where serial = '\x03' returning *) insert into certificate select issuer_id, '\x31', not_after from d`, false},
		{"a revocation behind other changes", `begin; insert into certificate values (1, '\x41', '2099-01-01Z'); update certificate set revoked_at = '2020-01-01Z', reason = 4 where serial = '\x41'; commit`, true},
		{"policy", `update issuer set http_max_age = http_max_age + 1, policy_version = policy_version + 1`, true},
		{"a closed pin", `insert into closed_pin values (sha256('x'))`, true},
		{"an opened pin", `delete from closed_pin`, true},
	} {
		before, err := store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dbtest.Exec(t, dsn, c.sql)
		p, err := publisher.Pending(t.Context(), before.Position)
		if err != nil || p.Position <= before.Position || p.Urgent != c.urgent {
			t.Errorf("%s: %+v after position %d, %v; want urgent %t", c.name, p, before.Position, err, c.urgent)
		}
		if p, err := publisher.Pending(t.Context(), p.Position); err != nil || p.Urgent {
			t.Errorf("%s: with nothing new %+v, %v", c.name, p, err)
		}
	}
	mustRevoke(t, store, db.ReasonSuperseded, "01")
	assertConsistent(t, dsn)
}
