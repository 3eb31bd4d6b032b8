package index_test

import (
	"strings"
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// reseed writes the rows of the seed anew in one transaction, as ocspsyncd does.
const reseed = `lock table feed_head, issuer, certificate, responder_certificate in access exclusive mode;
	truncate feed_head, issuer, certificate, responder_certificate;` + seed +
	`update feed_head set position = 50;`

func TestLocalTamperingIsFoundAndHealedByAReseed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sql, holds string }{
		{"un-revoke", `update certificate set revoked_at = null, reason = null where serial = '\x02'`, "certificate has 3 rows"},
		{"revoke", `update certificate set revoked_at = '2026-03-01' where serial = '\x01'`, "certificate has 3 rows"},
		{"delete", `delete from certificate where serial = '\x02'`, "certificate has 2 rows"},
		{"insert", `insert into certificate (issuer_id, serial, not_after) values (1, '\x05', '2099-01-01')`, "certificate has 4 rows"},
		{"truncate", `truncate certificate`, "certificate has 0 rows"},
		{"truncate of the head", `truncate feed_head`, "head row is gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := followed(t, s)
			s.tx(test.sql)
			c.expectDoubt("divergence: ")
			if doubt := c.Horizon().Doubt; !strings.Contains(doubt, test.holds) {
				t.Errorf("doubt %q does not say %q", doubt, test.holds)
			}
			if c.metric("ocspd_index_divergence") != 1 {
				t.Error("the metric is silent")
			}
			c.expect(5, "absent")
			s.tx("update site_state set skew_ms = 0") // anything; then the alarm must not be repeated
			s.tx(reseed)
			c.eventually("healed", func() bool { return c.Ready() == nil })
			c.expect(1, "good")
			c.expect(2, "revoked")
			if c.metric("ocspd_index_divergence") != 0 || c.log.count("snapshot refused") != 1 || c.log.count("snapshots adopted again") != 1 {
				t.Errorf("log:\n%s", c.log)
			}
		})
	}
}

func TestTamperedIssuersAreFound(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	// A head that says the issuers changed, and rows that did not.
	s.tx("update feed_head set issuer_digest = mod64(issuer_digest + 1), position = position + 1")
	c.expectDoubt("divergence: issuer has 1 rows")
	s.tx(settle)
	c.eventually("healed", func() bool { return c.Ready() == nil })
}

func TestFirstSnapshotDiverged(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.tx(`delete from certificate where serial = '\x01'`)
	c := follow(t, s.dsn, 20*time.Millisecond)
	c.eventually("says why", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "certificate has 2 rows")
	})
	if got := c.says(2); !strings.Contains(got, "no copy") {
		t.Errorf("rows that match no head are served: %s", got)
	}
	s.tx(settle)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	c.expect(2, "revoked")
}

// The rows and the head agree, only the revocation is gone: a head does not
// make that true.
func TestPermanentRevocationIsNeverLost(t *testing.T) {
	t.Parallel()
	const newHistory = "update feed_head set epoch = epoch + 1000, position = 1"
	for _, test := range []struct{ name, sql string }{
		{"good", `update certificate set revoked_at = null, reason = null where serial = '\x02'`},
		{"hold", `update certificate set reason = 6 where serial = '\x02'`},
		{"absent", `delete from certificate where serial = '\x02'`},
		{"good after a restart", `truncate certificate; insert into certificate (issuer_id, serial, not_after) values (1, '\x01', '2099-01-01'), (1, '\x02', '2099-01-01');
			select setval('site_seq', 1); update certificate set not_after = not_after`},
		{"good in a new epoch", `delete from certificate where serial = '\x02'; insert into certificate (issuer_id, serial, not_after) values (1, '\x02', '2099-01-01'); ` + newHistory},
		{"absent in a new epoch after TRUNCATE", "truncate certificate; " + newHistory},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := seededSite(t)
			c := followed(t, s)
			before := c.Horizon()
			s.tx(test.sql, settle)
			c.expectDoubt("divergence: the database has lost 1 permanent revocations")
			if h := c.Horizon(); h.Position != before.Position || h.Epoch != before.Epoch {
				t.Errorf("the horizon of a refused snapshot: %+v", h)
			}
			if c.log.count("snapshot refused") != 1 || c.log.count("lost=[1/02]") != 1 {
				t.Errorf("log:\n%s", c.log)
			}
			// Entered again, with the same time, it is the one that is held.
			s.tx(`insert into certificate (issuer_id, serial, not_after, revoked_at, reason) values (1, '\x02', '2099-01-01', '2026-01-01', 1)
				on conflict (issuer_id, serial) do update set revoked_at = excluded.revoked_at, reason = excluded.reason`, settle)
			c.caughtUp(s)
			c.expect(2, "revoked")
		})
	}
}

func TestRevocationMayGoWithItsExpiredCertificate(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	c.ahead.Store(int64(80 * 365 * 24 * time.Hour)) // the certificate ends in 2099
	s.tx(`delete from certificate where serial = '\x02'`, settle)
	c.expectDoubt("divergence: the database has lost 1 permanent revocations") // by this clock alone
	s.tx(settle, "update feed_head set as_of = '2099-01-03Z'")
	c.caughtUp(s)
	c.expect(2, "absent")
}

func TestReleaseOfAHoldIsOrdinary(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	s.tx(`update certificate set revoked_at = null, reason = null where serial = '\x03'`, settle)
	c.caughtUp(s)
	c.expect(3, "good")
}

func TestRollbackIsRefusedUntilThePositionCatchesUp(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.tx("update feed_head set position = 100")
	c := followed(t, s)
	s.tx("update feed_head set position = 50")
	c.expectDoubt("rollback: the database is at epoch 1000 position 50, this copy was already at epoch 1000 position 100")
	s.tx("update feed_head set position = 101")
	c.caughtUp(s)
	s.tx("update feed_head set epoch = 999, position = 1000")
	c.expectDoubt("rollback: ")
	s.tx("update feed_head set epoch = 1001, position = 1") // a new history, with all that we knew
	c.caughtUp(s)
}

func TestSubscriptionWithoutSynchronousCommitIsRefused(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, map[string]string{"wal_level": "logical"})
	s := newSite(t, dbtest.Migrated(t, server, "site", migrations.Site))
	s.tx(seed)
	subscribe := func(commit string) {
		s.tx(`create subscription ocspfleet connection 'host=127.0.0.1 port=1' publication ocspfleet with (connect = false, slot_name = none, synchronous_commit = ` + commit + `)`)
	}
	subscribe("off")
	c := follow(t, s.dsn, 20*time.Millisecond)
	c.eventually("refused with the fix", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "ALTER SUBSCRIPTION ocspfleet SET (synchronous_commit = on)")
	})
	s.tx("alter subscription ocspfleet set (synchronous_commit = on)")
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx("alter subscription ocspfleet set (synchronous_commit = off)")
	c.expectDoubt("subscription: ")
	s.tx("alter subscription ocspfleet set (synchronous_commit = local)") // flushes locally, too
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.tx("drop subscription ocspfleet")
}

func TestClockSkewIsADoubtWhileItsMeasurementIsFresh(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	for _, test := range []struct {
		skew  time.Duration
		age   string
		doubt string
	}{
		{6 * time.Minute, "0", "clock: this site's clock is 6m0s off the master's"},
		{4 * time.Minute, "0", ""},
		{-6 * time.Minute, "9 min", "clock: this site's clock is -6m0s off the master's"},
		{-6 * time.Minute, "11 min", ""},
	} {
		if _, err := s.pool.Exec(t.Context(), "update site_state set skew_ms = $1, skew_at = clock_timestamp() - $2::interval", test.skew.Milliseconds(), test.age); err != nil {
			t.Fatal(err)
		}
		c.eventually("doubt "+test.doubt, func() bool { return c.Horizon().Doubt == test.doubt })
		c.expect(2, "revoked")
	}
	if c.metric("ocspd_index_divergence") != 0 {
		t.Error("a wrong clock is no divergence")
	}
}

// A site that the master no longer lets in may have been revoked without a word of
// it: good and unknown end until it is let in again.
func TestASiteDeniedAccessIsInDoubt(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the end of a grace")
	}
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	for _, test := range []struct{ sql, doubt string }{
		{"update site_state set access_denied = 'the door is shut'", "access denied: the door is shut"},
		{"update site_state set access_denied = null", ""},
	} {
		if _, err := s.pool.Exec(t.Context(), test.sql); err != nil {
			t.Fatal(err)
		}
		c.eventually("doubt "+test.doubt, func() bool { return c.Horizon().Doubt == test.doubt })
		c.expect(2, "revoked")
	}
	if c.metric("ocspd_index_divergence") != 0 {
		t.Error("a shut door is no divergence")
	}
}

// The same where no checkpoint says which epoch is right: the master's next heartbeat puts
// the old one back, and the copy goes on from where it was, never from behind.
func TestTheEpochBeforeGoesOn(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	s.tx("update feed_head set position = 100")
	c := followed(t, s)
	s.tx("update feed_head set epoch = epoch + 1")
	c.eventually("the other epoch", func() bool { return c.Horizon().Epoch == 1001 })
	s.tx("update feed_head set epoch = epoch - 1, position = 99")
	c.expectDoubt("rollback: ")
	s.tx("update feed_head set position = 100")
	c.eventually("ready again", func() bool { return c.Ready() == nil && c.Horizon().Epoch == 1000 })
}
