package db_test

import (
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
)

// An operator names customers' certificates a site's own and revokes the site: no
// limit counts that, and nothing takes it back.
func TestNobodyMakesACustomersCertificateASitesOwn(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, software := staff(t, dsn, store)
	setLimit(t, store, 3)
	dbtest.Exec(t, dsn, `insert into certificate select 1, '\x0100000000000000000000000000' || int2send(i::int2), '2099-01-01Z' from generate_series(1, 300) i`)
	if _, err := anna.AddResponder(t.Context(), "site-a", "http://a", nil, act); err != nil {
		t.Fatal(err)
	}
	// Nor by the pool of serials.
	pool := `select serial_pool_add(1, array(select serial from certificate), '', '')`
	if err := run(t, dsn, "test_anna", pool); err != nil {
		t.Fatal(err)
	}
	named := 0
	for i := range 300 {
		serial := db.Serial{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte((i + 1) >> 8), byte(i + 1)}
		c := db.ResponderCertificate{IssuerID: 1, Serial: serial, Site: "site-a", KeyHash: [32]byte{1}, DER: []byte{0x30, 2, byte(i >> 8), byte(i)}}
		if err := anna.AddResponderCertificate(t.Context(), c, act); err == nil {
			named++
		}
		plan := masterdb.Planned{IssuerID: 1, Serial: serial, Site: "site-a", KeyHash: [32]byte{1}, NotBefore: time.Now(), NotAfter: year}
		if err := anna.PlanResponderCertificates(t.Context(), []masterdb.Planned{plan}, nil, act); err == nil {
			named++
		}
	}
	if named > 0 {
		t.Errorf("%d customers' certificates were taken for a site's own", named)
	}
	gone, err := anna.RevokeResponder(t.Context(), "site-a", db.ReasonKeyCompromise, act)
	if err != nil || len(gone) > 0 {
		t.Errorf("%d customers were revoked past a limit of 3, %v", len(gone), err)
	}

	// Nor does one become so that the CA is about to issue: a serial that a site's
	// certificate was planned with is no customer's any more.
	if _, err := anna.AddResponder(t.Context(), "site-b", "http://b", nil, act); err != nil {
		t.Fatal(err)
	}
	conn := dbtest.Connect(t, dsn)
	for _, sql := range []string{
		`insert into certificate values (1, '\x77', '2099-01-01Z')`,
		`insert into responder_key values (decode(rpad('02', 64, '0'), 'hex'), 'site-b')`,
		`insert into responder_planned values (1, '\x77', 'site-b', decode(rpad('02', 64, '0'), 'hex'), now(), '2099-01-01Z')`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	_, err = software.Issue(t.Context(), 1, db.Serial{0x77}, year, act)
	wantError(t, "a planned serial issued to a customer", "site-b's own", err)

	// What was planned is added as it was planned, once.
	c := db.ResponderCertificate{IssuerID: 1, Serial: db.Serial{0x77}, Site: "site-b", KeyHash: [32]byte{3}, DER: []byte{0x30, 0}}
	wantError(t, "another key than planned", "was not planned", anna.AddResponderCertificate(t.Context(), c, act))
	c.KeyHash = [32]byte{2}
	if err := anna.AddResponderCertificate(t.Context(), c, act); err != nil {
		t.Error(err)
	}
	c.DER = []byte{0x30, 1, 0}
	wantError(t, "a plan used twice", "was not planned", anna.AddResponderCertificate(t.Context(), c, act))
	assertConsistent(t, dsn)
}

// run runs a statement as a person does, and returns what was wrong.
func run(t *testing.T, dsn, login, sql string) error {
	t.Helper()
	_, err := dbtest.Connect(t, as(t, dsn, login)).Exec(t.Context(), sql)
	return err
}

// canLogin says whether a role may log in.
func canLogin(t *testing.T, dsn, login string) (may bool) {
	t.Helper()
	if err := dbtest.Connect(t, dsn).QueryRow(t.Context(), "select rolcanlogin from pg_roles where rolname = $1", login).Scan(&may); err != nil {
		t.Fatal(err)
	}
	return may
}

// A login that was closed with its site opens under no other site's name, be it the
// one that was named or the one that goes by default.
func TestAClosedLoginOpensForNoOtherSite(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, _ := staff(t, dsn, store)
	ctx := t.Context()
	logins := []string{"closed_x", "closed_y", "closed_z", "closed_former"}
	for _, login := range logins {
		person(t, dsn, store, login, db.RoleReplica)
	}
	add := func(site, login string) error {
		if _, err := anna.AddResponder(ctx, site, "http://"+site, nil, act); err != nil {
			return err
		}
		if login == "" {
			return nil
		}
		_, err := anna.SetSiteLogin(ctx, site, login, act)
		return err
	}
	closes := func(site string) {
		t.Helper()
		if _, err := anna.OpenSiteLogin(ctx, site, false, act); err != nil {
			t.Fatal(err)
		}
	}
	// closed-x goes by its default login; named by closed_y, formerly by closed_former.
	for _, err := range []error{add("closed-x", ""), add("named", "closed_former"), add("named", "closed_y"), add("other", "")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := anna.RevokeResponder(ctx, "closed-x", db.ReasonKeyCompromise, act); err != nil {
		t.Fatal(err)
	}
	if _, err := anna.SuspendResponder(ctx, "named", act); err != nil {
		t.Fatal(err)
	}
	closes("closed-x")
	closes("named")
	for name, opens := range map[string]func() error{
		"another site with the login of closed-x":          func() error { return add("other", "closed_x") },
		"another site with the login of named":             func() error { return add("other", "closed_y") },
		"another site with a former login of named":        func() error { return add("other", "closed_former") },
		"a new site whose default login is named's":        func() error { return add("closed-y", "") },
		"the site itself, with a login that is another's":  func() error { return add("named", "closed_x") },
		"a new login of the closed site":                   func() error { return add("closed-x", "closed_z") },
		"the DBA, by habit, with a login that was revoked": func() error { return store.CreateLogin(ctx, "closed_x", db.RoleReplica, "a password for tests", act) },
	} {
		if err := opens(); err == nil {
			t.Errorf("%s: nobody objects", name)
		}
		for _, site := range []string{"other", "closed-y"} {
			_, _ = anna.OpenSiteLogin(ctx, site, true, act)
		}
		for _, login := range []string{"closed_x", "closed_y", "closed_former"} {
			if canLogin(t, dsn, login) {
				t.Errorf("%s: %s may log in", name, login)
				dbtest.Exec(t, dsn, "alter role "+login+" nologin")
			}
		}
	}
	// What its own site has again opens with it; a former login does not.
	if _, err := anna.RestoreResponder(ctx, "named", act); err != nil {
		t.Fatal(err)
	}
	if _, err := anna.OpenSiteLogin(ctx, "named", true, act); err != nil {
		t.Fatal(err)
	}
	if !canLogin(t, dsn, "closed_y") || canLogin(t, dsn, "closed_former") {
		t.Errorf("after the restore closed_y=%t closed_former=%t", canLogin(t, dsn, "closed_y"), canLogin(t, dsn, "closed_former"))
	}
}

// A TLS key that a closed site had, now or earlier, is let in for no other; the list
// of them travels with the rows.
func TestAClosedTLSKeyIsLetInForNoOtherSite(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, _ := staff(t, dsn, store)
	ctx := t.Context()
	for _, site := range []string{"site-a", "site-b"} {
		if _, err := anna.AddResponder(ctx, site, "http://"+site, nil, act); err != nil {
			t.Fatal(err)
		}
	}
	former, pin := [32]byte{1}, [32]byte{2}
	for _, p := range [][32]byte{former, pin} {
		if _, err := anna.SetFeedPin(ctx, "site-a", p, act); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := anna.SuspendResponder(ctx, "site-a", act); err != nil {
		t.Fatal(err)
	}
	if err := run(t, dsn, "test_anna", `select responder_feed_pin('site-a', null, '', '')`); err != nil {
		t.Logf("taking the pin of a suspended site away: %v", err)
	}
	for _, p := range [][32]byte{former, pin} {
		if _, err := anna.SetFeedPin(ctx, "site-b", p, act); err == nil {
			t.Errorf("the key of a suspended site is let in for another: %x", p[:1])
		}
	}
	closed := func() string {
		t.Helper()
		var list string
		if err := dbtest.Connect(t, dsn).QueryRow(ctx, `select coalesce(string_agg(left(encode(pin, 'hex'), 2), ' ' order by pin), '') from closed_pin`).Scan(&list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := closed(); got != "01 02" {
		t.Errorf("closed keys: %q", got)
	}
	if _, err := anna.SetFeedPin(ctx, "site-a", [32]byte{3}, act); err != nil {
		t.Error(err)
	}
	if got := closed(); got != "01 02 03" {
		t.Errorf("closed keys, with one that a suspended site was given: %q", got)
	}
	if _, err := anna.RestoreResponder(ctx, "site-a", act); err != nil {
		t.Fatal(err)
	}
	if got := closed(); got != "" {
		t.Errorf("closed keys after the restore: %q", got)
	}
	if _, err := anna.RevokeResponder(ctx, "site-a", db.ReasonKeyCompromise, act); err != nil {
		t.Fatal(err)
	}
	if got := closed(); got != "01 02 03" {
		t.Errorf("closed keys of a revoked site: %q", got)
	}
	assertConsistent(t, dsn)
}

// Holds of a site's own certificates are set and released with the site alone.
func TestHoldsOfASitesOwnAreNobodyElses(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, software := staff(t, dsn, store)
	ctx := t.Context()
	dbtest.Exec(t, dsn, `select responder_add('site-a', 'http://a', '{}', '', '')`)
	ownCertificate(t, dsn, "site-a", 0x21, "k")
	for who, login := range map[string]*masterdb.DB{"an operator": anna, "the CA's software": software} {
		_, _, err := login.Hold(ctx, 1, db.Serial{0x21}, act)
		wantError(t, who+" holds", "site-a's own", err)
		_, _, err = login.Revoke(ctx, 1, db.Serial{0x21}, db.ReasonCertificateHold, time.Time{}, act)
		wantError(t, who+" revokes with certificateHold", "site-a's own", err)
		hold := rows(true, 0x21)
		hold[0].Status.Reason, hold[0].Status.NotAfter = db.ReasonCertificateHold, time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
		_, _, _, err = login.ImportBatch(ctx, 1, hold, masterdb.ImportSource{Form: "test"}, act)
		wantError(t, who+" imports a hold", "site-a's own", err)
	}
	if _, err := anna.SuspendResponder(ctx, "site-a", act); err != nil {
		t.Fatal(err)
	}
	for who, login := range map[string]*masterdb.DB{"an operator": anna, "the CA's software": software} {
		_, err := login.Release(ctx, 1, db.Serial{0x21}, act)
		wantError(t, who+" releases", "site-a's own", err)
		if s, err := store.Certificate(ctx, 1, db.Serial{0x21}); err != nil || s.Reason != db.ReasonCertificateHold {
			t.Errorf("after %s tried, the certificate of a suspended site is %+v, %v", who, s, err)
		}
	}
	// The safe direction is open to all: what the CA says is revoked for ever is so.
	if _, changed, err := software.Revoke(ctx, 1, db.Serial{0x21}, db.ReasonKeyCompromise, time.Time{}, act); err != nil || !changed {
		t.Errorf("a permanent revocation of a site's own: changed %t, %v", changed, err)
	}
	if list, err := anna.RestoreResponder(ctx, "site-a", act); err != nil || len(list) != 0 {
		t.Errorf("the restored site got %v, %v", list, err)
	}
	assertConsistent(t, dsn)
}

// ownCertificate gives a site a certificate with a serial of one octet.
func ownCertificate(t *testing.T, dsn, site string, serial byte, key string) {
	t.Helper()
	dbtest.Exec(t, dsn, fmt.Sprintf(`insert into certificate values (1, '\x%02[1]x', '2099-01-01Z');
		insert into responder_planned values (1, '\x%02[1]x', '%[2]s', sha256('%[3]s'), now(), '2099-01-01Z');
		select responder_certificate_add(1, '\x%02[1]x', '%[2]s', sha256('%[3]s'), '\x3000%02[1]x', '', '')`, serial, site, key))
}
