package index_test

import (
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// bySync is what ocspsyncd or the apply worker writes: the site's memory notes it.
const bySync = "set local role ocsp_sync;"

// rememberingSite is a site whose rows came by its sync.
func rememberingSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, dbtest.New(t, migrations.Site))
	s.tx(bySync+seed, "reset role; insert into feed_keys values (1, 'correct keys')")
	return s
}

const lostInMemory = "divergence: the database has lost 1 permanent revocations that this site remembers"

// What the rows take back while no ocspd runs, by any road, the next one answers as it
// was, in doubt: whoever wrote it. What is entered again, or was corrected, ends that.
func TestALoadTakesNoRevocationBack(t *testing.T) {
	t.Parallel()
	other := func(key string) string {
		return "insert into issuer values (2, sha256('" + key + "'), 'other', 'certificate', 259200, 300, 129600, 900, 3600, 'unknown', 'revocable', '', 1); " +
			`insert into certificate (issuer_id, serial, not_after) values (2, '\x02', '2099-01-01');`
	}
	for _, test := range []struct{ name, sql, then string }{
		{"good", good02, "good"},
		{"good by the sync", bySync + good02, "good"},
		{"gone", `delete from certificate where serial = '\x02'`, "absent"},
		{"a hold", `update certificate set reason = 6 where serial = '\x02'`, "hold"},
		{"an end that has come", `update certificate set not_after = '2026-02-01' where serial = '\x02'`, "revoked"},
		{"another time", `update certificate set revoked_at = '2025-12-31' where serial = '\x02'`, "revoked"},
		{"a lighter reason", `update certificate set reason = null where serial = '\x02'`, "revoked"},
		{"good after a re-seed", `truncate certificate; insert into certificate (issuer_id, serial, not_after) values (1, '\x02', '2099-01-01')`, "good"},
		{"good in a new epoch", good02 + "; update feed_head set epoch = epoch + 1, position = 60", "good"},
		{"a forged correction", forged() + good02, "good"},
		{"the issuer under another number", "delete from issuer; " + other("key"), "revoked"},
		{"the issuer's number with another key", "update issuer set key_hash = sha256('x');" + other("key"), "revoked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := rememberingSite(t)
			s.tx(test.sql, "reset role;"+settle)
			c := followWith(t, s.dsn, 20*time.Millisecond, trust)
			c.expectDoubt(lostInMemory)
			status, _, err := c.Lookup(t.Context(), 1, []byte{2})
			if err != nil || status.RevokedAt.Format("2006-01-02") != "2026-01-01" || status.Reason != 1 {
				t.Errorf("02 is %+v, %v", status, err)
			}
			if c.metric("ocspd_index_divergence") != 1 || c.log.count("revocations are lost and remembered") != 1 {
				t.Errorf("not told; log:\n%s", c.log)
			}
			s.tx(correction(nil), settle)
			if strings.HasPrefix(test.name, "the issuer") {
				return
			}
			c.caughtUp(s) // of exactly that state
			c.expect(2, test.then)
		})
	}
}

// What is entered again, with the same time, ends the doubt, and so does the end of the
// certificate, a day ago by both clocks; a clock that was set forward alone does not.
func TestALostRevocationEndsAsAnyOther(t *testing.T) {
	t.Parallel()
	s := rememberingSite(t)
	s.tx(good02, settle)
	c := followWith(t, s.dsn, 20*time.Millisecond, trust)
	c.expectDoubt(lostInMemory)
	s.tx(`update certificate set revoked_at = '2026-01-01', reason = 1 where serial = '\x02'`, settle)
	c.caughtUp(s)
	c.stop()
	c.stop = func() {}
	s.tx(`delete from certificate where serial = '\x02'`, settle)
	c = followWith(t, s.dsn, 20*time.Millisecond, trust)
	c.expectDoubt(lostInMemory)
	c.ahead.Store(int64(80 * 365 * 24 * time.Hour))
	s.tx(settle)
	c.eventually("seen", func() bool { return c.Horizon().Position == 6 })
	c.expectDoubt(lostInMemory)
	s.tx(settle, "update feed_head set as_of = '2099-01-01 23:59:59Z'")
	c.eventually("seen", func() bool { return c.Horizon().Position == 7 })
	c.expectDoubt(lostInMemory)
	s.tx(settle, "update feed_head set as_of = '2099-01-02Z'")
	c.caughtUp(s)
	c.expect(2, "absent")
}

// A revocation that comes and goes between two looks of a running ocspd is remembered;
// what a superuser's own hand writes is no word of the master's.
func TestWhatPassesBetweenTwoLooksIsRemembered(t *testing.T) {
	t.Parallel()
	s := rememberingSite(t)
	c := followWith(t, s.dsn, 20*time.Millisecond, trust)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	revoke, release := `update certificate set revoked_at = '2026-02-01', reason = 4 where serial = '\x01';`, `update certificate set revoked_at = null, reason = null where serial = '\x01';`
	s.tx(revoke+release, settle)
	c.caughtUp(s)
	c.expect(1, "good")
	s.tx(bySync+revoke+release, "reset role;"+settle)
	c.expectDoubt(lostInMemory)
	c.expect(1, "revoked")
	s.tx(revoke, settle)
	c.caughtUp(s)
	c.expect(1, "revoked")
}
