package db_test

import (
	"fmt"
	"strings"
	"testing"

	"ocspfleet/integration/testkit/dbtest"
)

// Whoever may call a door cannot write what nobody could read, carry or undo.
func TestTextsAndNumbersAreBounded(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	long := strings.Repeat("x", 1025)
	for _, c := range []struct{ role, want, sql string }{
		{"ocsp_ca", "audit_why_long", `select certificate_issue(1, '\x02', '2030-01-01Z', '` + long + `', 'me')`},
		{"ocsp_ca", "audit_os_user_long", `select certificate_issue(1, '\x02', '2030-01-01Z', 'w', '` + long + `')`},
		{"ocsp_ca", "certificate_ends_too_late", `select certificate_issue(1, '\x02', '10000-01-01Z', 'w', 'me')`},
		{"ocsp_ca", "audit_crl_number", `select certificate_import(1, '{"\\x02"}', '{2030-01-01Z}', '{null}', '{null}', '{"crl_number": "NaN"}', 'w', 'me')`},
		{"ocsp_ca", "audit_what_long", `select certificate_import(1, '{"\\x02"}', '{2030-01-01Z}', '{null}', '{null}', jsonb_build_object('x', repeat('y', 20000)), 'w', 'me')`},
		{"ocsp_operator", "responder_url_long", `select responder_add('a', 'http://` + long + `', null, 'w', 'me')`},
		{"ocsp_publisher", "run backwards", `select heartbeat('-1 s')`},
	} {
		refused(t, dbtest.As(dsn, c.role), c.want, c.sql)
	}
	// A crl_url of 1.2 MB made an entry that no segment could hold.
	refused(t, dsn, "issuer_crl_url_long", `insert into issuer select 9, sha256('9'), 'nine', certificate, validity, backdate, max_staleness, fresh_for_unknown, http_max_age, never_issued, profile, repeat('x', 1200000), 1 from issuer`)
	assertConsistent(t, dsn)
}

// A heartbeat's word of how long it was away lets no clock run ahead.
func TestAHugePauseCountsAsNone(t *testing.T) {
	dsn, _ := newMaster(t)
	conn := dbtest.Connect(t, dbtest.As(dsn, "ocsp_publisher"))
	if _, err := conn.Exec(t.Context(), "select heartbeat('200000 years')"); err != nil {
		t.Fatal(err)
	}
}

// At COMMIT one transaction holds the head: what would take long is refused while it
// is written, and the transaction of another goes by.
func TestATransactionIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a million rows")
	}
	dsn, store := newMaster(t)
	refused(t, dsn, "pending_change_too_many", `insert into certificate select 1, '\x40'::bytea || int4send(g), '2099-01-01Z' from generate_series(1, 300001) g`)
	refused(t, dsn, "at most 1000 audit entries", `do $$ begin for i in 1..1001 loop perform certificate_issue(1, '\x41'::bytea || int4send(i), '2099-01-01Z', '', ''); end loop; end $$`)
	conn := dbtest.Connect(t, dsn)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for part := range 4 { // together they are too many, though none is alone
		_, err = tx.Exec(t.Context(), fmt.Sprintf(`insert into certificate select 1, '\x42'::bytea || int4send(g), '2099-01-01Z' from generate_series(%d, %d) g`, part*90000, part*90000+89999))
		if err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "pending_change_too_many") {
		t.Errorf("360000 changes in one transaction: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, dsn, `insert into certificate select 1, '\x43'::bytea || int4send(g), '2099-01-01Z' from generate_series(1, 270000) g`)
	mustIssue(t, store, "01")
	assertConsistent(t, dsn)
}

// Any login that listens and stays in a transaction can fill the queue of
// notifications. What revokes must not need it.
func TestRevokingNotifiesNobody(t *testing.T) {
	dsn, _ := newMaster(t)
	var notifying []string
	err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select array(select proname::text from pg_proc
		where pronamespace in ('public'::regnamespace, 'ocsp_internal'::regnamespace) and prosrc ~ 'notify')`).Scan(&notifying)
	if err != nil || len(notifying) > 0 {
		t.Errorf("functions of the master that notify: %q, %v", notifying, err)
	}
}
