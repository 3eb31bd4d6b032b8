package db_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feed"
)

// person opens a store as a login of its own in this group, so that session_user
// is somebody. Logins belong to the cluster: the same one in every test.
func person(t *testing.T, dsn string, superuser *masterdb.DB, name string, group db.Role) *masterdb.DB {
	t.Helper()
	const password = "a password for tests"
	if err := superuser.CreateLogin(t.Context(), name, group, password, act); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, password)
	return open(t, u.String())
}

// staff are two operators and the CA's software.
func staff(t *testing.T, dsn string, store *masterdb.DB) (anna, bert, software *masterdb.DB) {
	t.Helper()
	return person(t, dsn, store, "test_anna", db.RoleOperator), person(t, dsn, store, "test_bert", db.RoleOperator),
		person(t, dsn, store, "test_software", db.RoleCA)
}

func mustRevoke(t *testing.T, store *masterdb.DB, reason db.Reason, serials ...string) {
	t.Helper()
	for _, serial := range serials {
		if _, _, err := store.Revoke(t.Context(), 1, mustSerial(t, serial), reason, time.Time{}, act); err != nil {
			t.Fatal(err)
		}
	}
}

func wantError(t *testing.T, what, want string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want an error with %q", what, err, want)
	}
}

func TestCorrectionNeedsTwoPersonsAndTravels(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	mustIssue(t, store, "01", "02", "03")
	mustRevoke(t, store, db.ReasonKeyCompromise, "01", "02")
	mustRevoke(t, store, db.ReasonCertificateHold, "03")
	ctx := t.Context()

	_, _, err := anna.RequestCorrection(ctx, 1, []db.Serial{{1}}, db.Act{User: "anna"})
	wantError(t, "without a reason", "says why", err)
	_, _, err = anna.RequestCorrection(ctx, 1, []db.Serial{{3}}, act)
	wantError(t, "of a hold", "nothing to correct", err)
	_, _, err = anna.RequestCorrection(ctx, 1, []db.Serial{{9}}, act)
	wantError(t, "of what was never issued", "never issued", err)
	id, expires, err := anna.RequestCorrection(ctx, 1, []db.Serial{{2}, {1}, {1}}, act)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(expires); left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("it expires in %v", left)
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || !s.Permanent() {
		t.Errorf("a request changed the certificate: %+v, %v", s, err)
	}
	wantError(t, "one's own", "is your own (login test_anna)", anna.Approve(ctx, id, act))
	wantError(t, "the CA's software", "permission denied", software.Approve(ctx, id, act))
	wantError(t, "another number", "there is no request", bert.Approve(ctx, id+1, act))
	wantError(t, "without a note", "wants a signed note of each, and of no other", bert.Approve(ctx, id, act))
	notes := key.Sign(t, bert, id)
	wantError(t, "with one note of two", "wants a signed note of each", bert.Approve(ctx, id, act, notes[0]))
	wantError(t, "with one twice", "wants a signed note of each", bert.Approve(ctx, id, act, notes[0], notes[0]))
	wantError(t, "with another's", "wants a signed note of each", bert.Approve(ctx, id, act, append(notes, db.SignedCorrection{Serial: db.Serial{3}, Note: notes[0].Note})...))
	if err := bert.Approve(ctx, id, act, notes...); err != nil {
		t.Fatal(err)
	}
	wantError(t, "twice", "was approved by test_bert", bert.Approve(ctx, id, act))
	for _, serial := range []db.Serial{{1}, {2}} {
		if s, err := store.Certificate(ctx, 1, serial); err != nil || s.Revoked {
			t.Errorf("after the correction %s is %+v, %v", serial, s, err)
		}
	}
	a, err := anna.Approval(ctx, id)
	if err != nil || a.Login != "test_anna" || a.ApprovedBy != "test_bert" || len(a.Taken) != 2 || a.Taken[0].Serial.String() != "01" {
		t.Errorf("the request: %+v, %v", a, err)
	}

	// The feed is told of the correction before the change that it allows.
	changes := assertConsistent(t, dsn)
	last := changes[len(changes)-4:]
	var kinds []string
	for _, c := range last {
		kinds = append(kinds, c.String())
	}
	if got := strings.Join(kinds, " "); got != "correction correction certificate certificate" {
		t.Errorf("the last changes are %s", got)
	}
	head, err := store.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var tally db.Tally
	err = store.Corrections(ctx, func(c db.Correction) error {
		canonical := db.AppendCorrection(nil, c)
		tally.Add(canonical)
		issuer := testIssuer(1)
		if n, err := key.Set.OpenCorrection(c.Note); err != nil || !n.Row(c, issuer.Key) || n.Was.Reason != db.ReasonKeyCompromise || !n.CorrectedAt.Equal(a.CorrectedAt) {
			t.Errorf("the note of %s: %+v, %v", c.Serial, n, err)
		}
		back, err := db.ParseCorrection(canonical)
		if err != nil || fmt.Sprint(back) != fmt.Sprint(c) {
			t.Errorf("%+v came back as %+v, %v", c, back, err)
		}
		return nil
	})
	if err != nil || tally != head.Corrections || tally.Count != 2 {
		t.Errorf("corrections %+v, the head says %+v (%v)", tally, head.Corrections, err)
	}
	for what, sql := range map[string]string{
		"written for ever": `delete from correction`, "is written": `update correction set revoked_at = revoked_at`, "TRUNCATE": `truncate correction`,
	} {
		refused(t, dsn, what, sql)
	}
	// Revoked again, it is so for ever again; the old correction excuses nothing.
	mustRevoke(t, store, db.ReasonSuperseded, "01")
	refused(t, dsn, "revoked for ever", `update certificate set revoked_at = null, reason = null where serial = '\x01'`)
}

func TestCorrectionIsRefusedWhereItMustNotBe(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, _ := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	br := testIssuer(2)
	br.Policy.Profile = db.ProfileBR
	if _, err := store.AddIssuer(t.Context(), br, act); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, dsn, `insert into certificate values (2, '\x01', '2099-01-01Z', '2026-01-01Z', 1)`)
	_, _, err := anna.RequestCorrection(t.Context(), 2, []db.Serial{{1}}, act)
	wantError(t, "profile br", "never taken back (BR section 4.9.1)", err)

	// A site's own certificate.
	mustIssue(t, store, "11")
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://a', '{}', '', ''); insert into responder_planned values (1, '\x11', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x11', 'site-a', sha256('k'), '\x3000', '', '')`)
	if _, err := store.RevokeResponder(t.Context(), "site-a", db.ReasonKeyCompromise, act); err != nil {
		t.Fatal(err)
	}
	_, _, err = anna.RequestCorrection(t.Context(), 1, []db.Serial{{0x11}}, act)
	wantError(t, "a site's own", "site's own", err)

	// What was approved is what was requested: not a later revocation.
	mustIssue(t, store, "12")
	mustRevoke(t, store, db.ReasonNone, "12")
	first, _, err := anna.RequestCorrection(t.Context(), 1, []db.Serial{{0x12}}, act)
	if err != nil {
		t.Fatal(err)
	}
	notes := key.Sign(t, bert, first)
	refused(t, dsn, "its time stays", `update certificate set revoked_at = '2026-02-02Z' where serial = '\x12'`)
	dbtest.Exec(t, dsn, `update certificate set reason = 1 where serial = '\x12'`)
	wantError(t, "of another revocation", "changed otherwise", bert.Approve(t.Context(), first, act, notes...))
	dbtest.Exec(t, dsn, `update approval set expires_at = clock_timestamp() - interval '1 s'`)
	wantError(t, "expired", "expired at", bert.Approve(t.Context(), first, act))

	// Not even a superuser's own row opens the way: it must be of this transaction.
	dbtest.Exec(t, dsn, `insert into correction select 1, serial, revoked_at, '2026-02-03Z', '\x00' from certificate where serial = '\x12'`)
	refused(t, dsn, "revoked for ever", `insert into correction select 1, serial, revoked_at, '2026-02-05Z', '\x00' from certificate where serial = '\x12';
		update certificate set revoked_at = null, reason = null where serial = '\x12'`)
	refused(t, dsn, "revoked for ever", `update certificate set revoked_at = null, reason = null where serial = '\x12'`)
	refused(t, dsn, "belongs to the transaction", `insert into correction values (1, '\x12', '2026-02-02Z', '2026-02-04Z', '\x00', '1')`)
	refused(t, dsn, "nothing to correct", `insert into certificate values (1, '\x77', '2099-01-01Z'); insert into correction values (1, '\x77', '2026-02-02Z', '2026-02-04Z', '\x00')`)
	refused(t, dsn, "cannot be deleted", `delete from certificate where serial = '\x12'`)
	assertVerified(t, store)
}

// A revocation that was taken back never comes again, whoever enters it for its very
// second: sites would refuse that.
func TestARevocationThatWasTakenBackNeverComesAgain(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	ctx, at := t.Context(), time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	revoked := func(what string, want time.Time) {
		t.Helper()
		if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || !s.RevokedAt.Equal(want) {
			t.Errorf("%s: revoked at %v, %v, want %v", what, s.RevokedAt, err, want)
		}
	}
	correct := func(ask func(context.Context, db.IssuerID, []db.Serial, db.Act) (int64, time.Time, error)) {
		t.Helper()
		id, _, err := ask(ctx, 1, []db.Serial{{1}}, act)
		if err == nil {
			err = key.Approve(t, bert, id, act)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mustIssue(t, store, "01", "02")
	if told, _, err := software.Revoke(ctx, 1, db.Serial{1}, db.ReasonKeyCompromise, at, act); err != nil || !told.RevokedAt.Equal(at) {
		t.Fatal(told, err)
	}
	correct(anna.RequestCorrection)
	if told, _, err := software.Revoke(ctx, 1, db.Serial{1}, db.ReasonKeyCompromise, at, act); err != nil || !told.RevokedAt.Equal(at.Add(time.Second)) {
		t.Errorf("it tells %v, %v", told, err)
	}
	revoked("typed again", at.Add(time.Second))
	correct(anna.RequestUnissue)
	dbtest.Exec(t, dsn, `select certificate_import(1, array['\x01'::bytea], array['2099-01-01Z'::timestamptz], array['2026-01-01 12:00Z'::timestamptz], array[1::smallint], '{}', '', '')`)
	revoked("imported again, as a new one", at.Add(2*time.Second))
	correct(anna.RequestCorrection)
	dbtest.Exec(t, dsn, `select certificate_import(1, array['\x01'::bytea], array['2099-01-01Z'::timestamptz], array['2026-01-01 12:00:01Z'::timestamptz], array[1::smallint], '{}', '', '')`)
	revoked("imported again", at.Add(3*time.Second))
	if told, _, err := software.Revoke(ctx, 1, db.Serial{2}, db.ReasonKeyCompromise, at, act); err != nil || !told.RevokedAt.Equal(at) {
		t.Errorf("another certificate: %v, %v", told, err)
	}
	assertConsistent(t, dsn)
	assertVerified(t, store)
}

// Without a key for corrections in force there is none: no site would believe it.
func TestNoCorrectionWithoutAKeyForIt(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, _ := staff(t, dsn, store)
	mustIssue(t, store, "01")
	mustRevoke(t, store, db.ReasonKeyCompromise, "01")
	refused := func(when string) {
		t.Helper()
		_, _, err := anna.RequestCorrection(t.Context(), 1, []db.Serial{{1}}, act)
		wantError(t, when, "no key for corrections is in force here", err)
		wantError(t, when, "ocspctl feed keys sign --correct", err)
	}
	refused("without a key set")
	key := feedtest.NewCorrector(t, store)
	if _, _, err := anna.RequestCorrection(t.Context(), 1, []db.Serial{{1}}, act); err != nil {
		t.Error(err)
	}
	key.Set.Number, key.Set.Correct[0].Retired = 2, &feed.Retired{}
	key.Publish(t, store)
	refused("with a retired key alone")
	key.Set.Number, key.Set.Correct, key.Set.Keys = 3, nil, []feed.FeedKey{feedtest.Named(feedtest.Key(t, feedtest.Origin))}
	key.Publish(t, store)
	refused("with a feed key alone")
}

// Corrections are signed anew beside the old ones, and take nothing else back.
func TestCorrectionsAreSignedAnew(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	ctx := t.Context()
	mustIssue(t, store, "01", "02")
	mustRevoke(t, store, db.ReasonKeyCompromise, "01", "02")
	id, _, err := anna.RequestCorrection(ctx, 1, []db.Serial{{1}}, act)
	if err == nil {
		err = key.Approve(t, bert, id, act)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []db.Correction
	read := func() [][]byte {
		t.Helper()
		all = nil
		var notes [][]byte
		if err := store.Corrections(ctx, func(c db.Correction) error { all, notes = append(all, c), append(notes, c.Note); return nil }); err != nil {
			t.Fatal(err)
		}
		return notes
	}
	second := feedtest.Key(t, feedtest.Origin)
	key.Set.Correct = append(key.Set.Correct, feedtest.Named(second))
	banned := key.Set.Without(key.Key.Verifier())
	lost := key.Set.Lost(read(), banned)
	if len(lost) != 1 {
		t.Fatalf("under the next set %d corrections would be lost", len(lost))
	}
	now, err := store.Clock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lost[0].CorrectedAt = now.Truncate(time.Second)
	signed, err := key.Set.SignCorrections(second, lost)
	if err != nil {
		t.Fatal(err)
	}
	anew := db.Correction{IssuerID: 1, Serial: db.Serial{1}, RevokedAt: all[0].RevokedAt, CorrectedAt: lost[0].CorrectedAt, Note: signed[0].Note}
	wantError(t, "the CA's software", "permission denied", software.ResignCorrections(ctx, []db.Correction{anew}, act))
	wantError(t, "without a reason", "says why", anna.ResignCorrections(ctx, []db.Correction{anew}, db.Act{User: "anna"}))
	other, late := anew, anew
	other.Serial, late.CorrectedAt = db.Serial{2}, anew.CorrectedAt.Add(-2*time.Hour)
	wantError(t, "of what was never corrected", "was never corrected", anna.ResignCorrections(ctx, []db.Correction{other}, act))
	wantError(t, "of another time", "bears the time", anna.ResignCorrections(ctx, []db.Correction{late}, act))
	if err := anna.ResignCorrections(ctx, []db.Correction{anew}, act); err != nil {
		t.Fatal(err)
	}
	if lost := key.Set.Lost(read(), banned); len(lost) != 0 || len(all) != 2 {
		t.Errorf("signed anew, %d of %d corrections would still be lost", len(lost), len(all))
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{2}); err != nil || !s.Permanent() {
		t.Errorf("another certificate: %+v, %v", s, err)
	}
	assertConsistent(t, dsn)
	assertVerified(t, store)
}

func TestHoldAndRelease(t *testing.T) {
	dsn, store := newMaster(t)
	_, _, software := staff(t, dsn, store)
	mustIssue(t, store, "01", "02")
	ctx := t.Context()
	since, changed, err := software.Hold(ctx, 1, db.Serial{1}, act)
	if err != nil || !changed || time.Since(since) > time.Minute {
		t.Fatalf("hold: %v %v %v", since, changed, err)
	}
	if _, changed, err = software.Hold(ctx, 1, db.Serial{1}, act); err != nil || changed {
		t.Errorf("held twice: %v %v", changed, err)
	}
	for _, want := range []bool{true, false} {
		if changed, err := software.Release(ctx, 1, db.Serial{1}, act); err != nil || changed != want {
			t.Errorf("release: %v, %v, want %v", changed, err, want)
		}
	}
	mustRevoke(t, store, db.ReasonNone, "02")
	_, err = software.Release(ctx, 1, db.Serial{2}, act)
	wantError(t, "release of a permanent one", "only a hold is released", err)
	_, _, err = software.Hold(ctx, 1, db.Serial{2}, act)
	wantError(t, "hold of a permanent one", "cannot be put on hold", err)
	if _, err = software.Release(ctx, 1, db.Serial{9}, act); !errors.Is(err, db.ErrNotIssued) {
		t.Errorf("release of nothing: %v", err)
	}
	assertConsistent(t, dsn)
}

// The same vectors for SQL and Go; docs/design.md points here.
var correctionVectors = []struct {
	serial, revokedAt, correctedAt, note, canonical string
	digest                                          db.Digest
}{
	{"01", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "n", "000000010001010002ea470ae860000002ea5b28bfc000000000016e", 13489717156461251553},
	{"00ff", "2026-11-22T15:04:05Z", "2026-11-22T15:04:06Z", "a note\n", "00000001000200ff000303dd8e964340000303dd8ea585800000000761206e6f74650a", 18154498589440525352},
}

func TestCorrectionDigestInSQLEqualsDigestInGo(t *testing.T) {
	conn := dbtest.Connect(t, dbtest.New(t, migrations.Site))
	for _, v := range correctionVectors {
		c := db.Correction{IssuerID: 1, Serial: mustSerial(t, v.serial), RevokedAt: parseTime(t, v.revokedAt), CorrectedAt: parseTime(t, v.correctedAt), Note: []byte(v.note)}
		canonical := db.AppendCorrection(nil, c)
		var inSQL []byte
		var digest int64
		err := conn.QueryRow(t.Context(), `select c, row_digest(c) from correction_canonical(1, $1, $2, $3, $4) c`, []byte(c.Serial), c.RevokedAt, c.CorrectedAt, c.Note).Scan(&inSQL, &digest)
		if err != nil {
			t.Fatal(err)
		}
		if string(inSQL) != string(canonical) || db.Digest(digest) != db.RowDigest(canonical) {
			t.Errorf("serial %s: SQL has %x %d, Go %x %d", v.serial, inSQL, uint64(digest), canonical, db.RowDigest(canonical))
		}
		if hex.EncodeToString(canonical) != v.canonical || db.RowDigest(canonical) != v.digest {
			t.Errorf("serial %s: %x with digest %d, the vector says %s with %d", v.serial, canonical, db.RowDigest(canonical), v.canonical, v.digest)
		}
	}
}
