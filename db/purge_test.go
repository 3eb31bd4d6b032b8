package db_test

import (
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

// What ended before the mark goes, good and revoked, in batches; what did not, and
// responder certificates, stay; count, digest and audit agree, and sites are told.
func TestPurgeTakesWhatEndedAndNothingElse(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	ended := time.Now().Add(-96 * time.Hour).Truncate(time.Second)
	dbtest.Exec(t, dsn, fmt.Sprintf(`insert into certificate (issuer_id, serial, not_after, revoked_at, reason)
		select 1, '\x40'::bytea || int4send(n), '%[1]s'::timestamptz, case when n %% 3 = 0 then '%[1]s'::timestamptz - interval '1 d' end, case when n %% 3 = 0 then 1 end
		from generate_series(1, %[2]d) n`, ended.UTC().Format(time.RFC3339), masterdb.PurgeBatch+7))
	mustIssue(t, store, "01", "02", "03")
	mustRevoke(t, store, db.ReasonKeyCompromise, "02")
	dbtest.Exec(t, dsn, fmt.Sprintf(`insert into certificate (issuer_id, serial, not_after) values (1, '\x50', '%s');
		select responder_add('site-a', 'http://a', '{}', '', '');
		insert into responder_planned values (1, '\x50', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x50', 'site-a', sha256('k'), '\x3000', '', '')`, ended.UTC().Format(time.RFC3339)))
	before := ended.Add(time.Second)
	if n, err := store.Purgeable(ctx, 1, before); err != nil || n != masterdb.PurgeBatch+7 {
		t.Fatalf("to go: %d, %v", n, err)
	}
	if n, err := store.Purgeable(ctx, 1, ended); err != nil || n != 0 {
		t.Errorf("before their end: %d, %v", n, err)
	}
	if _, err := store.Purge(ctx, 1, act); err == nil {
		t.Error("purged without a mark")
	}
	anna, bert, _ := staff(t, dsn, store)
	agreePurge(t, anna, bert, before)
	_, _, err := anna.RequestPurge(ctx, 1, before, act)
	wantError(t, "the same once more", "purged up to", err)
	issuers, err := store.Issuers(ctx)
	if err != nil || issuers[0].Policy.NeverIssued != db.NeverIssuedUnauthorized {
		t.Errorf("the issuer: %+v, %v", issuers[0].Policy, err)
	}
	if n, err := store.Purge(ctx, 1, act); err != nil || n != masterdb.PurgeBatch+7 {
		t.Errorf("purged %d, %v", n, err)
	}
	if n, err := store.Purge(ctx, 1, act); err != nil || n != 0 {
		t.Errorf("purged again %d, %v", n, err)
	}
	for _, serial := range []db.Serial{{1}, {2}, {3}, {0x50}} {
		if _, err := store.Certificate(ctx, 1, serial); err != nil {
			t.Errorf("%s: %v", serial, err)
		}
	}
	counts, err := store.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if !c.Identical {
			t.Errorf("%+v", c)
		}
	}
	if got, err := store.PurgedBefore(ctx, 1); err != nil || !got.Equal(before) {
		t.Errorf("the mark is %v, %v", got, err)
	}
}

// agreePurge has two persons let certificates go that ended before a time.
func agreePurge(t *testing.T, first, second *masterdb.DB, before time.Time) {
	t.Helper()
	id, _, err := first.RequestPurge(t.Context(), 1, before, act)
	if err == nil {
		err = second.Approve(t.Context(), id, act)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A mark that is too late or goes back, an issuer that would say revoked, and a policy
// that would contradict the purge, are refused.
func TestPurgeIsRefusedWhereItWouldLie(t *testing.T) {
	dsn, store := newMaster(t)
	ctx := t.Context()
	anna, bert, software := staff(t, dsn, store)
	past := time.Now().Add(-72 * time.Hour).Truncate(time.Second)
	if _, _, err := dbtest.Open(t, dsn).Publisher.Heartbeat(ctx, -1); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]time.Time{"the future": time.Now().Add(time.Hour), "yesterday": time.Now().Add(-47 * time.Hour)} {
		_, _, err := anna.RequestPurge(ctx, 1, at, act)
		wantError(t, name, "too late", err)
	}
	_, _, err := anna.RequestPurge(ctx, 99, past, act)
	wantError(t, "no such issuer", "there is no issuer", err)
	_, _, err = software.RequestPurge(ctx, 1, past, act)
	wantError(t, "the CA's software", "a person asks", err)
	refused(t, dbtest.As(dsn, "ocsp_operator"), "permission denied", `select ocsp_internal.purge_mark(1, '2020-01-01Z')`)
	dbtest.Exec(t, dsn, "update issuer set never_issued = 'revoked', policy_version = 2 where id = 1")
	_, _, err = anna.RequestPurge(ctx, 1, past, act)
	wantError(t, "never_issued: revoked", "cannot be purged", err)
	dbtest.Exec(t, dsn, "update issuer set never_issued = 'unknown', policy_version = 3 where id = 1")
	early, _, err := anna.RequestPurge(ctx, 1, past.Add(-time.Hour), act)
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := anna.RequestPurge(ctx, 1, past, act)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "one person alone", "second person", anna.Approve(ctx, id, act))
	if at, err := store.PurgedBefore(ctx, 1); err != nil || !at.IsZero() {
		t.Errorf("by one person's word the mark is %v, %v", at, err)
	}
	if err := bert.Approve(ctx, id, act); err != nil {
		t.Fatal(err)
	}
	wantError(t, "an older request, approved late", "purged up to", bert.Approve(ctx, early, act))
	_, _, err = anna.RequestPurge(ctx, 1, past.Add(-time.Hour), act)
	wantError(t, "back", "purged up to", err)
	for _, word := range []string{"revoked", "unknown"} {
		_, err := dbtest.Connect(t, dsn).Exec(ctx, "update issuer set never_issued = $1 where id = 1", word)
		wantError(t, word, "is purged", err)
	}
}
