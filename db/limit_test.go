package db_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

func setLimit(t *testing.T, store *masterdb.DB, n int64) {
	t.Helper()
	if _, err := store.SetLimit(t.Context(), n, act); err != nil {
		t.Fatal(err)
	}
}

func rows(revoked bool, serials ...byte) []masterdb.Row {
	var list []masterdb.Row
	for _, n := range serials {
		row := masterdb.Row{Serial: db.Serial{n}, Status: db.Status{NotAfter: year, Reason: db.ReasonNone}}
		if revoked {
			row.Status.Revoked, row.Status.RevokedAt = true, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		list = append(list, row)
	}
	return list
}

func TestRevocationsOverTheLimitNeedASecondPerson(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	ctx := t.Context()
	if l, err := anna.Limit(ctx); err != nil || l != (masterdb.Limit{PerHour: 100, Room: 100, RoomOthers: 100}) {
		t.Errorf("the limit at first: %+v, %v", l, err)
	}
	setLimit(t, store, 2)
	mustIssue(t, store, "01", "02", "03", "04", "05", "06", "07", "08")
	source := masterdb.ImportSource{Form: "test", File: "f"}

	// What comes in revoked changes nothing for clients.
	if in, _, _, err := software.ImportBatch(ctx, 1, rows(true, 0x20, 0x21, 0x22, 0x23, 0x24), source, act); err != nil || in != 5 {
		t.Errorf("an initial load: %d, %v", in, err)
	}
	mustRevoke(t, software, db.ReasonNone, "01")
	if _, _, err := anna.Hold(ctx, 1, db.Serial{2}, act); err != nil {
		t.Fatal(err)
	}
	mustRevoke(t, anna, db.ReasonNone, "02", "01") // hold becomes permanent, and nothing: neither counts
	_, _, _, err := software.ImportBatch(ctx, 1, rows(true, 3, 4), source, act)
	wantError(t, "an import of two", "at most 2 certificates an hour on one person's word: 1 in the last hour, 2 more here", err)
	wantError(t, "the hint", "--count 1 ", err)
	if s, _ := store.Certificate(ctx, 1, db.Serial{3}); s.Revoked {
		t.Error("half of a refused batch was done")
	}
	mustRevoke(t, software, db.ReasonNone, "03")
	_, _, err = software.Revoke(ctx, 1, db.Serial{4}, db.ReasonNone, time.Time{}, act)
	wantError(t, "the third", "at most 2", err)
	mustRevoke(t, anna, db.ReasonNone, "07")
	_, _, err = anna.Hold(ctx, 1, db.Serial{4}, act)
	wantError(t, "a hold", "at most 2", err)

	// A site that was broken into goes at any time.
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://a', '{}', '', ''); insert into responder_planned values (1, '\x08', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x08', 'site-a', sha256('k'), '\x3000', '', '')`)
	if gone, err := anna.RevokeResponder(ctx, "site-a", db.ReasonKeyCompromise, act); err != nil || len(gone) != 1 {
		t.Errorf("responder revoke over the limit: %v, %v", gone, err)
	}

	// An allowance is for the login that it names, and is used up.
	id, _, err := anna.RequestBulk(ctx, 2, "test_software", act)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = software.Revoke(ctx, 1, db.Serial{4}, db.ReasonNone, time.Time{}, act)
	wantError(t, "before it is approved", "at most 2", err)
	if err := bert.Approve(ctx, id, act); err != nil {
		t.Fatal(err)
	}
	_, _, err = anna.Revoke(ctx, 1, db.Serial{4}, db.ReasonNone, time.Time{}, act)
	wantError(t, "the requester's own", "at most 2", err)
	mustRevoke(t, software, db.ReasonNone, "04", "05")
	_, _, err = software.Revoke(ctx, 1, db.Serial{6}, db.ReasonNone, time.Time{}, act)
	wantError(t, "when it is used up", "at most 2", err)
	if a, err := anna.Approval(ctx, id); err != nil || a.Remaining != 0 || a.Count != 2 {
		t.Errorf("the allowance: %+v, %v", a, err)
	}

	// An hour later.
	dbtest.Exec(t, dsn, `update revocation_tally set minute = minute - interval '1 h'`)
	mustRevoke(t, software, db.ReasonNone, "06")
	if l, err := software.Limit(ctx); err != nil || l.Mine != 1 || l.Services != 1 || l.All != 1 || l.Room != 1 {
		t.Errorf("the limit then: %+v, %v", l, err)
	}
	assertConsistent(t, dsn)
}

// Many at once do not slip past a limit that is looked at under the head's lock.
func TestLimitIsExactUnderParallelRevocations(t *testing.T) {
	dsn, store := newMaster(t)
	setLimit(t, store, 10)
	dbtest.Exec(t, dsn, `insert into certificate select 1, '\x01' || int2send(i::int2), '2099-01-01Z' from generate_series(1, 40) i`)
	var done atomic.Int64
	var group sync.WaitGroup
	for n := range 8 {
		other := open(t, dsn)
		group.Go(func() {
			for i := n * 5; i < n*5+5; i++ {
				if _, changed, err := other.Revoke(t.Context(), 1, db.Serial{1, 0, byte(i + 1)}, db.ReasonNone, time.Time{}, act); err == nil && changed {
					done.Add(1)
				}
			}
		})
	}
	group.Wait()
	if done.Load() != 10 {
		t.Errorf("%d revocations came through a limit of 10", done.Load())
	}
	assertConsistent(t, dsn)
}

// Every role tries what only the functions may do.
func TestNobodyWritesApprovalsLimitsOrCorrections(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	mustRevoke(t, store, db.ReasonNone, "01")
	for _, role := range []string{"ocsp_ca", "ocsp_operator", "ocsp_publisher", "ocsp_replica"} {
		for _, sql := range []string{
			`insert into correction (issuer_id, serial, revoked_at, corrected_at, note) select 1, serial, revoked_at, now(), serial from certificate`,
			`delete from correction`, `truncate correction`, `update ocsp_internal.approval set approved_by = 'x'`, `delete from ocsp_internal.approval`,
			`insert into ocsp_internal.approval (act, what, why, os_user) values ('bulk', '{"count": 9}', 'x', '')`, `update ocsp_internal.limits set revocations_per_hour = 1000`,
			`delete from ocsp_internal.revocation_tally`, `truncate ocsp_internal.revocation_tally`, `select ocsp_internal.limit_set(1000, '', '')`, `select ocsp_internal.limit_take(-1000, 0)`, `select ocsp_internal.limit_add(-5, 0)`,
			`select * from ocsp_internal.certificate_revoke_row('x', 1, '\x01', null, null, '', '')`, `select ocsp_internal.epoch_new(99999999999, '{}', '', '')`,
		} {
			refused(t, dbtest.As(dsn, role), "permission denied", sql)
		}
	}
	for _, role := range []string{"ocsp_publisher", "ocsp_replica"} {
		for _, sql := range []string{
			`select approval_request('bulk', '{"count": 1}', 'x', '')`, `select approval_give(1, '', '')`,
			`select certificate_hold(1, '\x01', '', '')`, `select certificate_release(1, '\x01', '', '')`,
		} {
			refused(t, dbtest.As(dsn, role), "permission denied", sql)
		}
	}
	refused(t, dbtest.As(dsn, "ocsp_ca"), "permission denied", `select approval_give(1, '', '')`)
	assertConsistent(t, dsn)
}

// Yesterday's file, in which the certificate is good, brings nothing back; nor
// does a new epoch.
func TestImportAndEpochLeaveARevocation(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	mustRevoke(t, store, db.ReasonNone, "01")
	before, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hold := rows(true, 1)
	hold[0].Status.Reason = db.ReasonCertificateHold
	for name, batch := range map[string][]masterdb.Row{"good": rows(false, 1), "hold": hold} {
		if _, revoked, same, err := store.ImportBatch(t.Context(), 1, batch, masterdb.ImportSource{Form: "test"}, act); err != nil || revoked != 0 || same != 1 {
			t.Errorf("import of %s: revoked %d, unchanged %d, %v", name, revoked, same, err)
		}
	}
	if _, err := store.NewEpoch(t.Context(), before.Epoch+1, act); err != nil {
		t.Fatal(err)
	}
	_, err = store.NewEpoch(t.Context(), before.Epoch+1, act)
	wantError(t, "an epoch that is not later", "is not later", err)
	if s, err := store.Certificate(t.Context(), 1, db.Serial{1}); err != nil || !s.Permanent() {
		t.Errorf("the certificate is %+v, %v", s, err)
	}
	if after, err := store.Head(t.Context()); err != nil || after.Epoch != before.Epoch+1 || after.Position != before.Position {
		t.Errorf("the head was %+v, is %+v (%v)", before, after, err)
	}
	assertConsistent(t, dsn)
}
