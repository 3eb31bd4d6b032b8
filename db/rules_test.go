package db_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return err.Error()
}

func TestPermanentRevocationNeverBecomesGoodOrAbsent(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	if _, _, err := store.Revoke(t.Context(), 1, db.Serial{1}, db.ReasonNone, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	for _, road := range []string{
		`update certificate set revoked_at = null`,
		`update certificate set reason = 6`,
		`delete from certificate`,
		`begin; delete from certificate; insert into certificate values (1, '\x01', '2040-01-01Z'); commit`,
		`insert into certificate values (1, '\x01', '2040-01-01Z') on conflict (issuer_id, serial) do update set revoked_at = null, reason = null`,
		`update certificate set not_after = '2026-01-02Z'`, // would make the delete lawful
		`with d as (delete from certificate returning *) insert into certificate select issuer_id, serial, not_after from d`,
		`truncate certificate cascade`,
	} {
		conn := dbtest.Connect(t, dsn)
		if _, err := conn.Exec(t.Context(), road); err == nil {
			t.Errorf("this was not refused: %s", road)
		}
		if status, err := store.Certificate(t.Context(), 1, db.Serial{1}); err != nil || !status.Permanent() {
			t.Fatalf("after %s\nthe certificate is %+v, %v", road, status, err)
		}
	}
	assertConsistent(t, dsn)
}

func TestHoldCanBeReleasedOrBecomePermanent(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01", "02")
	for _, serial := range []db.Serial{{1}, {2}} {
		if _, _, err := store.Revoke(t.Context(), 1, serial, db.ReasonCertificateHold, time.Time{}, act); err != nil {
			t.Fatal(err)
		}
	}
	dbtest.Exec(t, dsn, `update certificate set revoked_at = null, reason = null where serial = '\x01'`)
	status, changed, err := store.Revoke(t.Context(), 1, db.Serial{2}, db.ReasonSuperseded, time.Time{}, act)
	if err != nil || !changed || status.Reason != db.ReasonSuperseded {
		t.Errorf("hold to superseded: %+v, changed %v, %v", status, changed, err)
	}
	_, changed, err = store.Revoke(t.Context(), 1, db.Serial{2}, db.ReasonCertificateHold, time.Time{}, act)
	if err != nil || changed {
		t.Errorf("hold of what is revoked for ever: changed %v, %v", changed, err)
	}
	assertConsistent(t, dsn)
}

func TestRowsThatCannotBe(t *testing.T) {
	dsn, _ := newMaster(t)
	for name, values := range map[string]string{
		"empty serial":           `'', '2040-01-01Z', null, null`,
		"serial not minimal":     `'\x0001', '2040-01-01Z', null, null`,
		"negative serial":        `'\x80', '2040-01-01Z', null, null`,
		"serial of 21 octets":    `'\x010203040506070809101112131415161718192021', '2040-01-01Z', null, null`,
		"no end":                 `'\x01', null, null, null`,
		"infinite end":           `'\x01', 'infinity', null, null`,
		"parts of a second":      `'\x01', '2040-01-01 00:00:00.5Z', null, null`,
		"zero end":               `'\x01', '1970-01-01Z', null, null`,
		"reason alone":           `'\x01', '2040-01-01Z', null, 1`,
		"unspecified stored":     `'\x01', '2040-01-01Z', '2026-01-01Z', 0`,
		"removeFromCRL":          `'\x01', '2040-01-01Z', '2026-01-01Z', 8`,
		"zero revocation":        `'\x01', '2040-01-01Z', '1970-01-01 10:00:01Z', null`,
		"revoked in the future":  `'\x01', '2040-01-01Z', '2039-01-01Z', null`,
		"revoked for ever, -inf": `'\x01', '2040-01-01Z', '-infinity', null`,
	} {
		conn := dbtest.Connect(t, dsn)
		_, err := conn.Exec(t.Context(), "insert into certificate values (1, "+values+")")
		if state := sqlStateOrNil(err); state != "23514" && state != "23502" {
			t.Errorf("%s: got %v", name, err)
		}
	}
	refused(t, dsn, "foreign key", `insert into certificate values (9, '\x01', '2040-01-01Z')`)
	assertConsistent(t, dsn)
}

func sqlStateOrNil(err error) string {
	if err == nil {
		return ""
	}
	return sqlState(err)
}

func TestRolesHaveNoRightsBeyondTheirFunctions(t *testing.T) {
	if testing.Short() {
		t.Skip("tries each function as each role")
	}
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	for _, role := range []string{"ocsp_ca", "ocsp_operator", "ocsp_publisher", "ocsp_replica"} {
		for _, sql := range []string{
			`insert into certificate values (1, '\x09', '2040-01-01Z')`, `update certificate set revoked_at = '2026-01-01Z'`, `delete from certificate`,
			`truncate certificate`, `update feed_head set position = 9`, `update issuer set validity = 7200`, `insert into ocsp_internal.audit (os_user, act, what, why) values ('', '', '{}', '')`,
			`delete from ocsp_internal.audit`, `insert into ocsp_internal.pending_change (kind, changes, rows, digest, urgent, total) values ('certificate', 0, 1, 1, false, 0)`, `select ocsp_internal.head_init(1)`, `select ocsp_internal.audit_append('x', '{}', '', '')`,
			`update ocsp_internal.heartbeat set confirmed_at = now()`, `create table x ()`, `insert into ocsp_internal.change_body (deleted, table_name, content) values (false, 'certificate', '')`,
		} {
			refused(t, dbtest.As(dsn, role), "permission denied", sql)
		}
	}
	for _, role := range []string{"ocsp_publisher", "ocsp_replica"} {
		refused(t, dbtest.As(dsn, role), "permission denied", `select certificate_revoke(1, '\x01', null, null, '', '')`)
	}
	refused(t, dbtest.As(dsn, "ocsp_ca"), "permission denied", `select * from heartbeat(null)`)
	ca := open(t, dbtest.As(dsn, "ocsp_ca"))
	mustIssue(t, ca, "02")
	if _, _, err := ca.Revoke(t.Context(), 1, db.Serial{2}, db.ReasonNone, time.Time{}, act); err != nil {
		t.Errorf("ocsp_ca may revoke: %v", err)
	}
	if _, _, err := dbtest.Open(t, dbtest.As(dsn, "ocsp_publisher")).Publisher.Heartbeat(t.Context(), -1); err != nil {
		t.Errorf("ocsp_publisher may confirm the head: %v", err)
	}
	assertConsistent(t, dsn)
}

func TestSiteRolesAreReadersButSync(t *testing.T) {
	dsn := dbtest.New(t, migrations.Site)
	for _, role := range []string{"ocsp_responder", "ocsp_operator"} {
		for _, sql := range []string{
			`insert into issuer select * from issuer`, `update certificate set revoked_at = null`, `delete from certificate`, `truncate feed_head`,
			`update site_state set skew_ms = 0`, `delete from site_tombstone`, `select subscription_drop('ocspfleet')`, `select subscription_enable('ocspfleet', false)`,
			`select subscription_create('ocspfleet', 'h', 1, 'd', 'u', 'p', 'disable', 's')`, `create table x ()`,
		} {
			refused(t, dbtest.As(dsn, role), "permission denied", sql)
		}
	}
	responder := dbtest.Connect(t, dbtest.As(dsn, "ocsp_responder"))
	if _, err := responder.Exec(t.Context(), "begin; lock table feed_head, issuer, certificate, responder_certificate in access share mode; select from certificate; rollback"); err != nil {
		t.Errorf("ocsp_responder may lock and read: %v", err)
	}
}

func TestAuditIsChainedAndComplete(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01", "02")
	if _, _, err := store.Revoke(t.Context(), 1, db.Serial{1}, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, dsn, `update certificate set not_after = '2041-01-01Z' where serial = '\x02'`) // by SQL: told as such
	conn := dbtest.Connect(t, dsn)
	rows, err := conn.Query(t.Context(), "select n, db_role, os_user, act, why, position, audit_canonical(audit), hash from audit order by n")
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		N                      int64
		DBRole, User, Act, Why string
		Position               int64
		Canonical, Hash        []byte
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[entry])
	if err != nil {
		t.Fatal(err)
	}
	var acts []string
	last := sha256.Sum256(nil)
	for i, e := range entries {
		if last = sha256.Sum256(append(last[:], e.Canonical...)); last != [32]byte(e.Hash) || e.N != int64(i+1) {
			t.Errorf("entry %d (n %d) breaks the chain", i+1, e.N)
		}
		acts = append(acts, fmt.Sprintf("%s by %q at %d", e.Act, e.User, e.Position))
	}
	want := []string{`issuer add by "tester" at 1`, `cert issue by "tester" at 2`, `cert issue by "tester" at 3`, `cert revoke by "tester" at 4`, `direct by "" at 5`}
	if fmt.Sprint(acts) != fmt.Sprint(want) {
		t.Errorf("audit says\n%q\nwant\n%q", acts, want)
	}
	head, err := store.Head(t.Context())
	if err != nil || head.AuditCount != 5 || [32]byte(head.AuditHash) != last {
		t.Errorf("the head's audit end is %d %x (%v)", head.AuditCount, head.AuditHash, err)
	}
	refused(t, dsn, "written for ever", `update audit set why = 'other' where n = 2`)
	refused(t, dsn, "written for ever", `delete from audit where n = 2`)
	refused(t, dsn, "takes its place", `insert into audit (n, os_user, act, what, why) values (9, '', '', '{}', '')`)
}

func TestSchemaOutOfRangeNamesTheFix(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"update schema_common set version = 999", "schema common has version 999, this program knows up to 101: upgrade the program"},
		{"update schema_site set version = 100", "schema site has version 100, this program needs 101: run ocspctl db migrate --role site"},
		{"update schema_site set dirty = true", "schema site broke off in version 101: repair it, then run ocspctl db force site VERSION"},
		{"drop table schema_common", "the database has no schema common: run ocspctl db migrate --role site"},
	} {
		dsn := dbtest.New(t, migrations.Site)
		store := open(t, dsn)
		if err := store.CheckSchema(t.Context(), "site"); err != nil {
			t.Fatal(err)
		}
		dbtest.Exec(t, dsn, c.sql)
		if err := store.CheckSchema(t.Context(), "site"); err == nil || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.sql, err, c.want)
		}
	}
}
