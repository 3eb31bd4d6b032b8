package db_test

import (
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// What a site remembers nobody but an owner takes away before the end, whatever clock
// ocspsyncd names; of one revocation the latest end counts, and each reason for itself.
// Odd rows, which a site does not check, raise nothing: that would stop the apply worker.
func TestWhatIsRememberedGoesWithItsEndAlone(t *testing.T) {
	dsn := dbtest.New(t, migrations.Site)
	sync := dbtest.As(dsn, "ocsp_sync")
	dbtest.Exec(t, sync, `
		insert into issuer values (1, sha256('key'), 'ca', 'certificate', 259200, 300, 129600, 900, 3600, 'unknown', 'revocable', '', 1);
		insert into certificate (issuer_id, serial, not_after, revoked_at, reason) values
		  (1, '\x01', '2099-01-01', '2026-01-01', null), (1, '\x02', '2099-01-01', '2026-01-01', 6), (1, '\x03', '2099-01-01', null, null),
		  (1, '\x04', clock_timestamp() - interval '23 h', '2026-01-01', 4), (1, '\x05', clock_timestamp() - interval '25 h', '2026-01-01', 4),
		  (1, '\x06', 'infinity', '-infinity', 99), (1, decode(repeat('aa', 21), 'hex'), '2099-01-01', '2026-01-01', 1);
		update certificate set reason = 1 where serial = '\x01';
		update certificate set not_after = '2099-02-01' where serial = '\x01';
		update certificate set not_after = '2099-01-15' where serial = '\x01';
		truncate certificate, issuer`)
	remembered := func(want string) {
		t.Helper()
		var got string
		err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select coalesce(string_agg(encode(serial, 'hex') || ' ' || reason || ' ' || coalesce(to_char(not_after, 'MM-DD'), ''), ', ' order by serial, reason), '')
			from site_revoked where serial not in ('\x04', '\x06')`).Scan(&got)
		if err != nil || got != want {
			t.Errorf("remembered: %q, want %q, %v", got, want, err)
		}
	}
	both := "01 -1 01-01, 01 1 02-01"
	remembered(both)
	for _, role := range []string{"ocsp_sync", "ocsp_responder", "ocsp_operator", "ocsp_subscriber"} {
		for _, sql := range []string{"delete from ocsp_internal.site_revoked", "truncate ocsp_internal.site_revoked", "update ocsp_internal.site_revoked set not_after = '2020-01-01'", "insert into ocsp_internal.site_revoked values (1, '\\x09')", "delete from ocsp_internal.site_issuer"} {
			refused(t, dbtest.As(dsn, role), "permission denied", sql)
		}
	}
	store := dbtest.Open(t, sync).Site
	if n, err := store.ForgetEnded(t.Context(), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil || n != 0 {
		t.Errorf("forgotten are %d, %v", n, err)
	}
	remembered(both)
	dbtest.Exec(t, dsn, `update site_revoked set not_after = clock_timestamp() - interval '25 h' where serial = '\x04'`)
	if n, err := store.ForgetEnded(t.Context(), db.Ended(time.Now(), time.Now().Add(-2*time.Hour))); err != nil || n != 0 {
		t.Errorf("by an as_of that is not as far, %d are forgotten, %v", n, err)
	}
	if n, err := store.ForgetEnded(t.Context(), db.Ended(time.Now(), time.Now())); err != nil || n != 1 {
		t.Errorf("forgotten are %d, %v", n, err)
	}
	remembered(both)
}

// A number stands for one key while anything is remembered under it.
func TestTheKeyOfWhatIsRememberedStays(t *testing.T) {
	dsn := dbtest.New(t, migrations.Site)
	sync := dbtest.As(dsn, "ocsp_sync")
	key := func(want string) {
		t.Helper()
		var is bool
		if err := dbtest.Connect(t, dsn).QueryRow(t.Context(), "select key_hash = sha256($1) from site_issuer", []byte(want)).Scan(&is); err != nil || !is {
			t.Errorf("it is not %s (%v)", want, err)
		}
	}
	insert := func(name string) {
		t.Helper()
		dbtest.Exec(t, sync, "delete from issuer; insert into issuer values (1, sha256('"+name+"'), 'ca', 'certificate', 259200, 300, 129600, 900, 3600, 'unknown', 'revocable', '', 1)")
	}
	insert("one")
	key("one")
	insert("two")
	key("two")
	dbtest.Exec(t, sync, `insert into certificate (issuer_id, serial, not_after, revoked_at) values (1, '\x01', '2099-01-01', '2026-01-01')`)
	insert("three")
	key("two")
	dbtest.Exec(t, dsn, "update site_revoked set not_after = '2020-01-01'")
	if n, err := dbtest.Open(t, sync).Site.ForgetEnded(t.Context(), time.Now()); err != nil || n != 1 {
		t.Errorf("forgotten are %d, %v", n, err)
	}
	key("three")
}
