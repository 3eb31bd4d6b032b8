package index_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/google/go-cmp/cmp"
)

func TestLoadThenFollow(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	c.expect(1, "good")
	c.expect(2, "revoked")
	c.expect(3, "hold")
	c.expect(4, "absent")
	got, h, err := c.Lookup(t.Context(), 1, db.Serial{2})
	want := db.Status{
		NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), Revoked: true, RevokedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Reason: db.ReasonKeyCompromise, Changed: 2,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if h.Epoch != 1000 || h.Position != 2 || h.Doubt != "" || time.Since(h.Received) > time.Minute {
		t.Errorf("horizon %+v", h)
	}
	if i, r := c.Issuers(), c.ResponderCertificates(); len(i) != 1 || i[0].Name != "ca" || len(r) != 1 || r[0].Site != "site-a" {
		t.Errorf("issuers %v, responder certificates %v", i, r)
	}
	s.tx(`update certificate set revoked_at = '2026-02-01', reason = 4 where serial = '\x01';
	      update certificate set revoked_at = null, reason = null where serial = '\x03';
	      insert into certificate (issuer_id, serial, not_after) values (1, '\x04', '2099-01-01');
	      update issuer set name = 'renamed';`, settle)
	c.caughtUp(s)
	c.expect(1, "revoked")
	c.expect(3, "good")
	c.expect(4, "good")
	if name := c.Issuers()[0].Name; name != "renamed" {
		t.Error(name)
	}
	s.tx(`delete from certificate where serial = '\x04'`, settle)
	c.caughtUp(s)
	c.expect(4, "absent")
	if n, m := c.metric("ocspd_index_reloads_total"), c.metric("ocspd_index_certificates"); n != 1 || m != 3 || c.Len() != 3 {
		t.Errorf("%v reloads, %v certificates", n, m)
	}
}

func TestLookupOfWhatNoTableHolds(t *testing.T) {
	t.Parallel()
	c := followed(t, seededSite(t))
	for _, serial := range []db.Serial{nil, {}, {0xff}, make(db.Serial, 21), make(db.Serial, 30)} {
		if _, h, err := c.Lookup(t.Context(), 1, serial); !errors.Is(err, db.ErrNotIssued) || h.Position == 0 {
			t.Errorf("serial %s: %v, horizon %+v", serial, err, h)
		}
	}
	if _, _, err := c.Lookup(t.Context(), 2, db.Serial{1}); !errors.Is(err, db.ErrNotIssued) {
		t.Errorf("the serial of another issuer: %v", err)
	}
}

func TestHeartbeatMovesTheHorizonAlone(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	before := c.Horizon()
	s.tx("update feed_head set as_of = as_of + interval '1 s'")
	c.eventually("as_of moved", func() bool { return c.Horizon().AsOf.Equal(before.AsOf.Add(time.Second)) })
	if h := c.Horizon(); !h.Received.After(before.Received) || h.Position != before.Position {
		t.Errorf("horizon %+v after %+v", h, before)
	}
	s.tx("update feed_head set as_of = as_of - interval '1 h'", `update certificate set reason = 2 where serial = '\x02'`,
		"update feed_head set position = position - 1", settle)
	c.eventually("the change is in", func() bool {
		st, _, _ := c.Lookup(t.Context(), 1, db.Serial{2})
		return st.Reason == db.ReasonCACompromise
	})
}

func TestNotReadyBeforeTheFirstHead(t *testing.T) {
	t.Parallel()
	s := newSite(t, dbtest.New(t, migrations.Site))
	c := follow(t, s.dsn, 20*time.Millisecond)
	c.eventually("says why", func() bool { err := c.Ready(); return err != nil && strings.Contains(err.Error(), "not seeded") })
	if _, _, err := c.Lookup(t.Context(), 1, db.Serial{1}); !errors.Is(err, index.ErrNotReady) || !errors.Is(c.Ready(), index.ErrNotReady) {
		t.Error(err)
	}
	if h := c.Horizon(); h.Doubt == "" {
		t.Error("an empty copy is not in doubt")
	}
	s.tx(seed)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	c.expect(1, "good")
}

func TestNotificationWakesLongBeforeThePoll(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := follow(t, s.dsn, time.Hour)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	s.eventuallyListening(1)
	s.tx(`update certificate set revoked_at = '2026-02-01', reason = 4 where serial = '\x01'`, settle)
	c.caughtUp(s)
	c.expect(1, "revoked")
}

func (s *site) eventuallyListening(want int) {
	s.t.Helper()
	const listeners = "select count(*) from pg_stat_activity where datname = current_database() and query = 'listen ocsp_head'"
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var n int
		if err := s.pool.QueryRow(s.t.Context(), listeners).Scan(&n); err != nil {
			s.t.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d listeners, want %d", n, want)
		}
	}
}

func TestPollCatchesALostNotification(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	s.eventuallyListening(1)
	// No notification at all from here: the poll alone is left.
	s.tx("alter table feed_head disable trigger site_notify")
	s.tx("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query = 'listen ocsp_head'")
	s.tx(`update certificate set revoked_at = '2026-02-01', reason = 4 where serial = '\x01'`, settle)
	c.caughtUp(s)
	c.expect(1, "revoked")
	s.eventuallyListening(1) // and it listens again
}

func TestLocalDatabaseKilledAndBack(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	s := newSite(t, dbtest.Migrated(t, server, "site", migrations.Site))
	s.tx(seed)
	c := followed(t, s)
	before := c.Horizon()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	c.eventually("it is seen that the database is away", func() bool { return c.State().DownError != "" })
	c.expect(1, "good")
	c.expect(2, "revoked")
	if diff := cmp.Diff(before, c.Horizon()); diff != "" || c.Ready() != nil {
		t.Errorf("ready %v, horizon moved: %s", c.Ready(), diff)
	}
	if c.State().DownSince.IsZero() || c.metric("ocspd_index_database_up") != 0 {
		t.Error("the absence is not told")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.pool.Reset()
	s.tx(`update certificate set revoked_at = '2026-02-01', reason = 4 where serial = '\x01'`, settle)
	c.caughtUp(s)
	c.expect(1, "revoked")
	if n := c.metric("ocspd_index_reloads_total"); n != 2 {
		t.Errorf("%v loads, want a second one after the restart", n)
	}
	if c.State().DownError != "" || c.log.count("database away") != 1 || c.log.count("database back") != 1 {
		t.Errorf("log:\n%s", c.log)
	}
}

func TestReseedUnderLookups(t *testing.T) {
	if testing.Short() {
		t.Skip("is a long load")
	}
	t.Parallel()
	s := seededSite(t)
	s.tx(`insert into certificate (issuer_id, serial, not_after, revoked_at, reason)
		select 1, '\x10'::bytea || int4send(n), '2099-01-01', '2026-01-01', 1 from generate_series(1, 2000) n`, settle)
	c := followed(t, s)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				serial := db.Serial{0x10, 0, 0, byte((n%1900 + 1) >> 8), byte(n%1900 + 1)}
				if status, h, err := c.Lookup(t.Context(), 1, serial); err != nil || !status.Permanent() || h.Position == 0 || h.Doubt != "" {
					t.Errorf("serial %s during a re-seed: %+v at %+v, %v", serial, status, h, err)
					return
				}
			}
		})
	}
	for range 5 {
		s.tx("lock table feed_head, issuer, certificate, responder_certificate in access exclusive mode",
			"create temp table kept on commit drop as select * from certificate", "truncate certificate",
			"insert into certificate (issuer_id, serial, not_after, revoked_at, reason) select issuer_id, serial, not_after, revoked_at, reason from kept",
			// What the master deleted meanwhile: no tombstone tells of it.
			`delete from certificate where serial = '\x01'`,
			"truncate site_tombstone", settle)
		c.caughtUp(s)
	}
	close(done)
	readers.Wait()
	c.expect(1, "absent")
	if c.metric("ocspd_index_reloads_total") < 2 || c.log.count("refused") != 0 {
		t.Errorf("log:\n%s", c.log)
	}
}

func TestBehindTheTrimmedTombstones(t *testing.T) {
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	s.tx(`delete from certificate where serial = '\x01'`, "update site_state set trimmed_to = (select max(site_seq) from site_tombstone)",
		"delete from site_tombstone", settle)
	c.caughtUp(s)
	c.expect(1, "absent")
	if n := c.metric("ocspd_index_reloads_total"); n != 2 {
		t.Errorf("%v loads, want 2: behind the trimmed tombstones there is nothing to follow", n)
	}
	s.tx("update feed_head set as_of = as_of + interval '1 s'")
	s.tx(settle)
	c.caughtUp(s)
	if n := c.metric("ocspd_index_reloads_total"); n != 2 {
		t.Errorf("%v loads: it loads again and again", n)
	}
}

func TestTooManyChangesAreReadAsAWhole(t *testing.T) {
	if testing.Short() {
		t.Skip("writes more changes than are read one by one")
	}
	t.Parallel()
	s := seededSite(t)
	c := followed(t, s)
	s.tx(`insert into certificate (issuer_id, serial, not_after) select 1, '\x10'::bytea || int4send(n), '2099-01-01' from generate_series(1, 250001) n`, settle)
	c.caughtUp(s)
	if n := c.metric("ocspd_index_reloads_total"); n != 2 || c.Len() != 250_004 {
		t.Errorf("%v loads, %d certificates", n, c.Len())
	}
	s.tx(`update certificate set revoked_at = '2026-02-01' where serial = '\x10'::bytea || int4send(77)`, settle)
	c.caughtUp(s)
	if n := c.metric("ocspd_index_reloads_total"); n != 2 || c.says(0x10, 0, 0, 0, 77) != "revoked" {
		t.Errorf("%v loads, serial is %s", n, c.says(0x10, 0, 0, 0, 77))
	}
}
