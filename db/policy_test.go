package db_test

import (
	"testing"

	"ocspfleet/db/dbtest"
)

// BR 4.9.10: a policy of profile br with which an answer could break the rules is
// refused by the table itself, whoever writes it.
func TestBR_4_9_10_PolicyThatBreaksTheRulesIsRefused(t *testing.T) {
	dsn, _ := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	for _, c := range []struct {
		name, set string
		refused   bool
	}{
		{"as by default", `validity = 259200, backdate = 300, max_staleness = 129600`, false},
		{"8 h", `validity = 28800, backdate = 300, max_staleness = 14100, http_max_age = 3600`, false},
		{"below 8 h", `validity = 28799, backdate = 300, max_staleness = 14000, http_max_age = 3600`, true},
		{"10 d, both ends counted", `validity = 863999, backdate = 300, max_staleness = 345300`, false},
		{"a second over 10 d", `validity = 864000, backdate = 300, max_staleness = 129600`, true},
		{"below 16 h, over half of it", `validity = 57599, backdate = 300, max_staleness = 28500, http_max_age = 3600`, true},
		{"16 h, to 8 h before the end", `validity = 57600, backdate = 300, max_staleness = 28500, http_max_age = 3600`, false},
		{"to 7 h 59 min before the end", `validity = 57600, backdate = 360, max_staleness = 28500, http_max_age = 3600`, true},
		{"over 4 d after the begin", `validity = 863999, backdate = 301, max_staleness = 345300`, true},
		{"never issued is revoked", `validity = 259200, backdate = 300, max_staleness = 129600, never_issued = 'revoked'`, true},
	} {
		_, err := conn.Exec(t.Context(), `update issuer set policy_version = policy_version + 1, profile = 'br', fresh_for_unknown = 900, `+c.set)
		switch {
		case c.refused && (err == nil || sqlState(err) != "23514"):
			t.Errorf("%s: want it refused, got %v", c.name, err)
		case !c.refused && err != nil:
			t.Errorf("%s: %v", c.name, err)
		}
	}
	assertConsistent(t, dsn)
}
