package db_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
)

// lastActs are the acts of the last entries of the audit, oldest first.
func lastActs(t *testing.T, dsn string, n int) string {
	t.Helper()
	var acts string
	err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select string_agg(act, ', ' order by n) from (select * from audit order by n desc limit $1) a`, n).Scan(&acts)
	if err != nil {
		t.Fatal(err)
	}
	return acts
}

// What was imported and never issued is forgotten, good, on hold or revoked for
// ever; of the last the sites are told by a correction, before the row goes.
func TestCertificatesThatWereNeverIssuedAreForgotten(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, _ := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	mustIssue(t, store, "01", "02", "03", "04")
	mustRevoke(t, store, db.ReasonKeyCompromise, "02")
	mustRevoke(t, store, db.ReasonCertificateHold, "03")
	ctx := t.Context()
	_, _, err := anna.RequestUnissue(ctx, 1, []db.Serial{{9}}, act)
	wantError(t, "of what the master does not know", "never issued", err)
	_, _, err = anna.RequestUnissue(ctx, 1, nil, act)
	wantError(t, "of nothing", "names 1 to 100 ", err)
	id, _, err := anna.RequestUnissue(ctx, 1, []db.Serial{{1}, {2}, {3}}, act)
	if err != nil {
		t.Fatal(err)
	}
	a, err := bert.Approval(ctx, id)
	if err != nil || a.Wrong != db.WrongIssued || len(a.Taken) != 3 || a.Taken[0].RevokedAt != (time.Time{}) || a.Taken[1].RevokedAt.IsZero() || !a.Taken[2].NotAfter.Equal(year) {
		t.Errorf("the request: %+v, %v", a, err)
	}
	wantError(t, "without a note", "wants a signed note of each", bert.Approve(ctx, id, act))
	if err := key.Approve(t, bert, id, act); err != nil {
		t.Fatal(err)
	}
	for _, serial := range []db.Serial{{1}, {2}, {3}} {
		if s, err := store.Certificate(ctx, 1, serial); !errors.Is(err, db.ErrNotIssued) {
			t.Errorf("serial %s: %+v, %v", serial, s, err)
		}
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{4}); err != nil || s.Revoked {
		t.Errorf("another certificate: %+v, %v", s, err)
	}
	changes := assertConsistent(t, dsn)
	var kinds []string
	for _, c := range changes[len(changes)-4:] {
		kinds = append(kinds, c.String())
	}
	if got := strings.Join(kinds, " "); got != "correction -certificate -certificate -certificate" {
		t.Errorf("the last changes are %s", got)
	}
	if got := lastActs(t, dsn, 3); got != "approval request, approval give, cert correct" {
		t.Errorf("the audit says %s", got)
	}
	// It comes back as any new certificate, and is then as revoked as any.
	mustIssue(t, store, "02")
	mustRevoke(t, store, db.ReasonSuperseded, "02")
	refused(t, dsn, "cannot be deleted", `delete from certificate where serial = '\x02'`)
	assertVerified(t, store)
}

// A wrong end is moved, back too, by two persons and by nothing else.
func TestAWrongEndIsCorrected(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, _ := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	mustIssue(t, store, "01", "02", "03")
	mustRevoke(t, store, db.ReasonKeyCompromise, "02")
	ctx := t.Context()
	sooner := year.Add(-24 * time.Hour)
	_, _, err := anna.RequestEnd(ctx, 1, []db.Serial{{1}}, year, act)
	wantError(t, "the end that it has", "already", err)
	_, _, err = anna.RequestEnd(ctx, 1, []db.Serial{{1}}, sooner.Add(time.Millisecond), act)
	wantError(t, "parts of a second", "whole second", err)
	for _, end := range []time.Time{sooner, year.Add(time.Hour)} {
		id, _, err := anna.RequestEnd(ctx, 1, []db.Serial{{1}, {2}}, end, act)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, "one's own", "is your own", anna.Approve(ctx, id, act))
		wantError(t, "without a note", "wants a signed note of each", bert.Approve(ctx, id, act))
		if err := key.Approve(t, bert, id, act); err != nil {
			t.Fatal(err)
		}
		for serial, revoked := range map[byte]bool{1: false, 2: true} {
			if s, err := store.Certificate(ctx, 1, db.Serial{serial}); err != nil || !s.NotAfter.Equal(end) || s.Permanent() != revoked {
				t.Errorf("serial %d: %+v, %v, want the end %v", serial, s, err, end)
			}
		}
	}
	// The approval opens the way for its own transaction, its certificates and its end alone.
	refused(t, dsn, "cannot be moved back", `update certificate set not_after = not_after - interval '1 h' where serial = '\x01'`)
	refused(t, dsn, "cannot be moved back", `insert into approval (act, what, why, db_role, os_user, xid) values ('cert correct',
		'{"issuer": 1, "wrong": "not_after", "not_after": "2000-01-01Z", "certificates": [{"serial": "01"}]}', 'x', 'y', 'z', pg_current_xact_id());
		update certificate set not_after = '2000-01-01Z' where serial = '\x03'`)
	refused(t, dsn, "cannot be moved back", `insert into approval (act, what, why, db_role, os_user, xid) values ('cert correct',
		'{"issuer": 1, "wrong": "not_after", "not_after": "2000-01-01Z", "certificates": [{"serial": "03"}]}', 'x', 'y', 'z', pg_current_xact_id());
		update certificate set not_after = '1999-01-01Z' where serial = '\x03'`)
	assertConsistent(t, dsn)
	assertVerified(t, store)
}

// What is approved is what was requested, for every kind of mistake, and none is
// corrected where it must not be.
func TestCorrectionsOfMistakesAreRefusedWhereTheyMustNotBe(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, _ := staff(t, dsn, store)
	key := feedtest.NewCorrector(t, store)
	br := testIssuer(2)
	br.Policy.Profile = db.ProfileBR
	if _, err := store.AddIssuer(t.Context(), br, act); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if _, err := store.Issue(ctx, 2, db.Serial{1}, year, act); err != nil {
		t.Fatal(err)
	}
	mustIssue(t, store, "01", "02", "11")
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://a', '{}', '', ''); insert into responder_planned values (1, '\x11', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x11', 'site-a', sha256('k'), '\x3000', '', '')`)
	later := year.Add(time.Hour)
	requests := map[string]func(issuer db.IssuerID, serial db.Serial) (int64, error){
		"never issued": func(issuer db.IssuerID, serial db.Serial) (int64, error) {
			id, _, err := anna.RequestUnissue(ctx, issuer, []db.Serial{serial}, act)
			return id, err
		},
		"end": func(issuer db.IssuerID, serial db.Serial) (int64, error) {
			id, _, err := anna.RequestEnd(ctx, issuer, []db.Serial{serial}, later, act)
			return id, err
		},
	}
	for name, request := range requests {
		_, err := request(2, db.Serial{1})
		wantError(t, name+", profile br", "nothing else is corrected", err)
		_, err = request(1, db.Serial{0x11})
		wantError(t, name+", a site's own", "a site's own", err)
	}
	for i, name := range []string{"never issued", "end"} {
		serial := db.Serial{byte(i + 1)}
		id, err := requests[name](1, serial)
		if err != nil {
			t.Fatal(err)
		}
		mustRevoke(t, store, db.ReasonKeyCompromise, serial.String()) // meanwhile
		wantError(t, name+", of what was revoked meanwhile", "not what the request says", key.Approve(t, bert, id, act))
		if s, err := store.Certificate(ctx, 1, serial); err != nil || !s.Permanent() || !s.NotAfter.Equal(year) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	assertVerified(t, store)
}

// A refusal closes the request and stays in the audit; the requester may take it back.
func TestARefusalStaysInTheAudit(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	ctx := t.Context()
	for refuser, who := range map[*masterdb.DB]string{bert: "test_bert", anna: "test_anna"} {
		id, _, err := anna.RequestBulk(ctx, 5, "", act)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, "without a reason", "says why", refuser.Refuse(ctx, id, db.Act{User: "x"}))
		wantError(t, "by the CA's software", "permission denied", software.Refuse(ctx, id, act))
		if err := refuser.Refuse(ctx, id, db.Act{User: "x", Why: "no need"}); err != nil {
			t.Fatal(err)
		}
		wantError(t, "approved then", "was refused by "+who, bert.Approve(ctx, id, act))
		wantError(t, "refused again", "was refused by "+who, bert.Refuse(ctx, id, act))
		a, err := anna.Approval(ctx, id)
		if err != nil || a.RefusedBy != who || a.RefusedAt.IsZero() || a.ApprovedBy != "" {
			t.Errorf("the request: %+v, %v", a, err)
		}
		var act, login, why string
		err = dbtest.Connect(t, dsn).QueryRow(ctx, `select act, db_role, why from audit order by n desc limit 1`).Scan(&act, &login, &why)
		if err != nil || act != "approval refuse" || login != who || why != "no need" {
			t.Errorf("the audit: %s by %s, %q, %v", act, login, why, err)
		}
	}
	if open, err := anna.Approvals(ctx, true, 10); err != nil || len(open) != 0 {
		t.Errorf("still open: %+v, %v", open, err)
	}
	if l, err := anna.Limit(ctx); err != nil || l.Allowance != 0 {
		t.Errorf("a refused allowance of %d, %v", l.Allowance, err)
	}
	wantError(t, "of nothing", "there is no request", bert.Refuse(ctx, 99, act))
	assertVerified(t, store)
}

// The audit of an enrolment names the key, so that it can be told from any other.
func TestTheAuditOfAnEnrolmentNamesTheKey(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "11")
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://a', '{}', '', ''); insert into responder_planned values (1, '\x11', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x11', 'site-a', sha256('k'), '\x3000', '', '')`)
	var hash string
	err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select what->>'key_hash' from audit where act = 'responder certificate add'`).Scan(&hash)
	if want := "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"; err != nil || hash != want || len(hash) != hex.EncodedLen(32) {
		t.Errorf("key hash %q, %v", hash, err)
	}
}
