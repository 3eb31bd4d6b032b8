package db_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

// lostRows are certificates that a master lost: good, on hold, revoked.
func lostRows(t *testing.T) []masterdb.Row {
	t.Helper()
	at := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	return []masterdb.Row{
		{Serial: mustSerial(t, "21"), Status: db.Status{NotAfter: year, Reason: db.ReasonNone}},
		{Serial: mustSerial(t, "22"), Status: db.Status{NotAfter: year, Revoked: true, RevokedAt: at, Reason: db.ReasonCertificateHold}},
		{Serial: mustSerial(t, "23"), Status: db.Status{NotAfter: year, Revoked: true, RevokedAt: at, Reason: db.ReasonKeyCompromise}},
	}
}

// Exactly the rows to which two persons agreed are entered, with what they are.
func TestWhatWasLostIsEnteredByTwoPersons(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	anna, bert, software := staff(t, dsn, store)
	mustIssue(t, store, "22")
	r := masterdb.Recovery{From: "https://site-a:9443", Epoch: 1000, Position: 12, Batches: []masterdb.RecoverBatch{{Issuer: 1, Rows: lostRows(t)}}}
	_, err := anna.Recover(ctx, r.Batches[0], act)
	wantError(t, "before anybody agreed", "no two persons agreed", err)
	_, _, err = software.RequestRecovery(ctx, r, act)
	wantError(t, "a program asks", "is a program's", err)
	id, _, err := anna.RequestRecovery(ctx, r, act)
	if err != nil {
		t.Fatal(err)
	}
	_, err = anna.Recover(ctx, r.Batches[0], act)
	wantError(t, "before the second person agreed", "no two persons agreed", err)
	wantError(t, "the same person", "is your own", anna.Approve(ctx, id, act))
	if err := bert.Approve(ctx, id, act); err != nil {
		t.Fatal(err)
	}
	if agreed, err := anna.RecoveryAgreed(ctx, r); err != nil || !agreed {
		t.Fatalf("agreed: %t, %v", agreed, err)
	}
	for what, change := range map[string]func([]masterdb.Row) []masterdb.Row{
		"one row less":     func(rows []masterdb.Row) []masterdb.Row { return rows[:2] },
		"another end":      func(rows []masterdb.Row) []masterdb.Row { rows[0].Status.NotAfter = year.Add(time.Hour); return rows },
		"another serial":   func(rows []masterdb.Row) []masterdb.Row { rows[0].Serial = mustSerial(t, "31"); return rows },
		"a hold as good":   func(rows []masterdb.Row) []masterdb.Row { rows[1].Status.Revoked = false; return rows },
		"another order":    func(rows []masterdb.Row) []masterdb.Row { slices.Reverse(rows); return rows },
		"another second":   func(rows []masterdb.Row) []masterdb.Row { rows[2].Status.RevokedAt = year; return rows },
		"one row twice":    func(rows []masterdb.Row) []masterdb.Row { return append(rows, rows[0]) },
		"nothing is named": func([]masterdb.Row) []masterdb.Row { return nil },
	} {
		_, err := anna.Recover(ctx, masterdb.RecoverBatch{Issuer: 1, Rows: change(lostRows(t))}, act)
		wantError(t, what, "no two persons agreed", err)
	}
	_, err = anna.Recover(ctx, masterdb.RecoverBatch{Issuer: 2, Rows: lostRows(t)}, act)
	wantError(t, "another issuer", "no two persons agreed", err)
	_, err = software.Recover(ctx, r.Batches[0], act)
	wantError(t, "a program enters", "may not", err)
	if n, err := anna.Recover(ctx, r.Batches[0], act); err != nil || n != 3 {
		t.Fatalf("entered %d, %v", n, err)
	}
	for _, row := range lostRows(t) {
		got, err := store.Certificate(ctx, 1, row.Serial)
		if err != nil || got.State() != row.Status.State() || !got.NotAfter.Equal(row.Status.NotAfter) || !got.RevokedAt.Equal(row.Status.RevokedAt) || got.Reason != row.Status.Reason {
			t.Errorf("%s is %+v (%v), want %+v", row.Serial, got, err, row.Status)
		}
	}
	if n, err := anna.Recover(ctx, r.Batches[0], act); err != nil || n != 0 {
		t.Errorf("once more: %d, %v", n, err)
	}
	dbtest.Exec(t, dsn, "update approval set expires_at = clock_timestamp() where act = 'feed recover'")
	_, err = anna.Recover(ctx, r.Batches[0], act)
	wantError(t, "a day later", "no two persons agreed", err)
	assertConsistent(t, dsn)
}

// The largest request fits into the audit, with all that people say of it.
func TestTheLargestRecoveryIsAudited(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	anna, bert, _ := staff(t, dsn, store)
	r := masterdb.Recovery{From: "https://" + strings.Repeat("a", 992), Epoch: math.MaxInt32, Position: math.MaxInt32}
	for i := range 200 {
		r.Batches = append(r.Batches, masterdb.RecoverBatch{Issuer: db.IssuerID(i + 1), Rows: lostRows(t)})
	}
	long := db.Act{User: "tester", Why: strings.Repeat("w", 1024)}
	id, _, err := anna.RequestRecovery(ctx, r, long)
	if err == nil {
		err = bert.Approve(ctx, id, long)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, err := store.Approval(ctx, id)
	if err != nil || a.Recovery.Good != 200 || a.Recovery.Held != 200 || a.Recovery.Revoked != 200 || len(a.Recovery.Batches) != 200 || a.Recovery.From != r.From {
		t.Errorf("the request is %+v, %v", a.Recovery, err)
	}
	r.Batches = append(r.Batches, r.Batches[0])
	_, _, err = anna.RequestRecovery(ctx, r, long)
	wantError(t, "one batch more", "1 to 200 batches", err)
}

// A partner who owns a site's database can have nothing issued, though two persons agree.
func TestASitesClaimIssuesNothing(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	anna, bert, _ := staff(t, dsn, store)
	mustIssue(t, store, "23")
	agree := func(rows []masterdb.Row) masterdb.RecoverBatch {
		t.Helper()
		r := masterdb.Recovery{From: "site-a.yaml", Batches: []masterdb.RecoverBatch{{Issuer: 1, Rows: rows}}}
		id, _, err := anna.RequestRecovery(ctx, r, act)
		if err == nil {
			err = bert.Approve(ctx, id, act)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r.Batches[0]
	}
	for _, rows := range [][]masterdb.Row{lostRows(t)[:1], lostRows(t)[1:2], lostRows(t)} {
		_, err := anna.Recover(ctx, agree(rows), act)
		wantError(t, "a claim that is no permanent revocation", "permanent revocations are entered and nothing else", err)
	}
	claim := agree(lostRows(t)[2:])
	setLimit(t, store, 0)
	_, err := anna.Recover(ctx, claim, act)
	wantError(t, "over the hourly limit", "certificates an hour", err)
	setLimit(t, store, 1)
	if n, err := anna.Recover(ctx, claim, act); err != nil || n != 1 {
		t.Errorf("entered %d, %v", n, err)
	}
	assertConsistent(t, dsn)
}

// What the master says beyond what is entered stays: for ever revoked, corrected, later.
func TestEffectsOfWhatWasLost(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	mustIssue(t, store, "21", "22", "23")
	mustRevoke(t, store, db.ReasonSuperseded, "21", "22")
	dbtest.Exec(t, dsn, `insert into certificate values (1, '\x24', '2099-01-01Z')`)
	rows := append(lostRows(t), masterdb.Row{Serial: mustSerial(t, "24"), Status: db.Status{NotAfter: year, Reason: db.ReasonNone}},
		masterdb.Row{Serial: mustSerial(t, "25"), Status: db.Status{NotAfter: year, Reason: db.ReasonNone}})
	effects, err := store.Effects(ctx, 1, rows)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]masterdb.Effect{"21": masterdb.ImportKept, "22": masterdb.ImportKept, "23": masterdb.ImportRevoke, "24": masterdb.ImportOtherEnd, "25": masterdb.ImportNew}
	for _, e := range effects {
		if e.Effect != want[e.Serial.String()] || e.Enters() != (e.Effect == masterdb.ImportRevoke || e.Effect == masterdb.ImportNew) {
			t.Errorf("%s: %s, enters %t", e.Serial, e.Effect, e.Enters())
		}
		delete(want, e.Serial.String())
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if effects, err = store.Effects(ctx, 1, nil); err != nil || len(effects) != 0 {
		t.Errorf("nothing: %v, %v", effects, err)
	}
}
