package db_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/dbtest"
	"ocspfleet/migrations"
)

// person opens a store as a login of its own in this group, so that session_user
// is somebody. Logins belong to the cluster: the same one in every test.
func person(t *testing.T, dsn string, superuser *db.Store, name string, group db.Role) *db.Store {
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
func staff(t *testing.T, dsn string, store *db.Store) (anna, bert, software *db.Store) {
	t.Helper()
	return person(t, dsn, store, "test_anna", db.RoleOperator), person(t, dsn, store, "test_bert", db.RoleOperator),
		person(t, dsn, store, "test_software", db.RoleCA)
}

func mustRevoke(t *testing.T, store *db.Store, reason db.Reason, serials ...string) {
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
	if err := bert.Approve(ctx, id, act); err != nil {
		t.Fatal(err)
	}
	wantError(t, "twice", "was approved by test_bert", bert.Approve(ctx, id, act))
	for _, serial := range []db.Serial{{1}, {2}} {
		if s, err := store.Certificate(ctx, 1, serial); err != nil || s.Revoked() {
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
		kinds = append(kinds, c.Op+c.Tbl)
	}
	if got := strings.Join(kinds, " "); got != "Ck Ck Uc Uc" {
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
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://a', '{}', '', ''); select responder_certificate_add(1, '\x11', 'site-a', sha256('k'), '\x3000', '', '')`)
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
	// Only past the guard does its time move.
	dbtest.Exec(t, dsn, `alter table certificate disable trigger guard; update certificate set revoked_at = '2026-02-02Z' where serial = '\x12'; alter table certificate enable trigger guard`)
	wantError(t, "of another revocation", "at another time", bert.Approve(t.Context(), first, act))
	dbtest.Exec(t, dsn, `update approval set expires_at = clock_timestamp() - interval '1 s'`)
	wantError(t, "expired", "expired at", bert.Approve(t.Context(), first, act))

	// Not even a superuser's own row opens the way: it must be of this transaction.
	dbtest.Exec(t, dsn, `insert into correction (issuer_id, serial, revoked_at, corrected_at) values (1, '\x12', '2026-02-02Z', '2026-02-03Z')`)
	refused(t, dsn, "revoked for ever", `update certificate set revoked_at = null, reason = null where serial = '\x12'`)
	refused(t, dsn, "belongs to the transaction", `insert into correction values (1, '\x12', '2026-02-02Z', '2026-02-04Z', '1')`)
	refused(t, dsn, "nothing to correct", `insert into correction (issuer_id, serial, revoked_at, corrected_at) select 1, serial, '2026-02-02Z', '2026-02-04Z' from certificate where revoked_at is null limit 1; insert into certificate values (1, '\x77', '2099-01-01Z'); insert into correction (issuer_id, serial, revoked_at, corrected_at) values (1, '\x77', '2026-02-02Z', '2026-02-04Z')`)
	refused(t, dsn, "cannot be deleted", `delete from certificate where serial = '\x12'`)
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
	serial, revokedAt, correctedAt, canonical string
	digest                                    db.Digest
}{
	{"01", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "000000010001010002ea470ae860000002ea5b28bfc000", 8314893895669090178},
	{"00ff", "2026-11-22T15:04:05Z", "2026-11-22T15:04:06Z", "00000001000200ff000303dd8e964340000303dd8ea58580", 63745260285198695},
}

func TestCorrectionDigestInSQLEqualsDigestInGo(t *testing.T) {
	conn := dbtest.Connect(t, dbtest.New(t, migrations.Site))
	for _, v := range correctionVectors {
		c := db.Correction{IssuerID: 1, Serial: mustSerial(t, v.serial), RevokedAt: parseTime(t, v.revokedAt), CorrectedAt: parseTime(t, v.correctedAt)}
		canonical := db.AppendCorrection(nil, c)
		var inSQL []byte
		var digest int64
		err := conn.QueryRow(t.Context(), `select c, row_digest(c) from correction_canonical(1, $1, $2, $3) c`, []byte(c.Serial), c.RevokedAt, c.CorrectedAt).Scan(&inSQL, &digest)
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
