package db_test

import (
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

// A reason becomes keyCompromise, and no other one; the time of a permanent revocation
// stays, whoever writes the row.
func TestAReasonIsRaisedAndNeverLowered(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	mustIssue(t, store, "01")
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		reason, want db.Reason
		at           time.Time
		changed      bool
	}{
		{db.ReasonSuperseded, db.ReasonSuperseded, at, true},
		{db.ReasonNone, db.ReasonSuperseded, time.Time{}, false},
		{db.ReasonCessationOfOperation, db.ReasonSuperseded, time.Time{}, false},
		{db.ReasonCertificateHold, db.ReasonSuperseded, time.Time{}, false},
		{db.ReasonKeyCompromise, db.ReasonKeyCompromise, at.Add(-time.Hour), true},
		{db.ReasonKeyCompromise, db.ReasonKeyCompromise, time.Time{}, false},
		{db.ReasonSuperseded, db.ReasonKeyCompromise, time.Time{}, false},
	} {
		s, changed, err := store.Revoke(ctx, 1, db.Serial{1}, c.reason, c.at, act)
		if err != nil || changed != c.changed || s.Reason != c.want || !s.RevokedAt.Equal(at) {
			t.Errorf("%v: %+v, %t, %v", c, s, changed, err)
		}
	}
	refused(t, dsn, "its time stays", `update certificate set revoked_at = '2026-02-02Z' where serial = '\x01'`)
	refused(t, dsn, "its time stays", `update certificate set reason = 4 where serial = '\x01'`)
	assertConsistent(t, dsn)
}

// Profile br knows no hold, whoever writes the row.
func TestNobodyHoldsACertificateOfProfileBR(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	dbtest.Exec(t, dsn, "update issuer set profile = 'br'")
	refused(t, dsn, "which forbids certificateHold", `update certificate set revoked_at = '2026-02-02Z', reason = 6 where serial = '\x01'`)
	refused(t, dsn, "which forbids certificateHold", `insert into certificate values (1, '\x02', '2040-01-01Z', '2026-02-02Z', 6)`)
	_, _, _, err := store.ImportBatch(t.Context(), 1, []masterdb.Row{{Serial: db.Serial{3}, Status: db.Status{NotAfter: year, Revoked: true, RevokedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Reason: db.ReasonCertificateHold}}}, masterdb.ImportSource{}, act)
	wantError(t, "an import", "which forbids certificateHold", err)
}
