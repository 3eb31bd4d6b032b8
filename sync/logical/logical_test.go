package logical_test

import (
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/logical"

	"github.com/jackc/pgx/v5/pgconn"
)

func (p *pair) assertNobodyIsSuperuser() {
	p.t.Helper()
	var names string
	err := dbtest.Connect(p.t, p.siteDSN).QueryRow(p.t.Context(), `select coalesce(string_agg(r.rolname, ','), '') from pg_roles r
		where r.rolsuper and (r.rolname ~ '^ocsp_' or r.rolname = 'test_sync' or r.oid in (select subowner from pg_subscription))`).Scan(&names)
	if err != nil {
		p.t.Fatal(err)
	}
	if names != "" {
		p.t.Errorf("superusers: %s", names)
	}
}

func TestSchemaDriftIsNamedUntilTheSiteIsMigrated(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.start(nil)
	dbtest.Exec(t, p.masterDSN, `alter table issuer add column extra int;
		alter publication ocspfleet set table issuer, certificate, responder_certificate, correction (issuer_id, serial, revoked_at, corrected_at, note), closed_pin, feed_head`)
	p.reaches(logical.SchemaDrift)
	if !strings.Contains(p.state().Detail, "issuer.extra") || !strings.Contains(p.state().Detail, "ocspctl db migrate") {
		t.Errorf("column and fix are not named: %s", p.state().Detail)
	}
	dbtest.Exec(t, p.siteDSN, "alter table issuer add column extra int")
	p.issue("0a")
	p.seenAtSite("0a", "good")
	p.heals()
}

func TestSkewIsMeasuredByARoundTrip(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	const ahead = 7 * time.Minute
	p.start(func(c *logical.Config) { c.Now = func() time.Time { return time.Now().Add(ahead) } })
	var ms int64
	err := dbtest.Connect(t, p.siteDSN).QueryRow(t.Context(), "select skew_ms from site_state").Scan(&ms)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []time.Duration{time.Duration(ms) * time.Millisecond, p.state().Skew} {
		if got < ahead-2*time.Second || got > ahead+2*time.Second {
			t.Errorf("skew %v, want about %v", got, ahead)
		}
	}
}

func TestSeedRefusesAMasterThatDisagreesWithItself(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.start(nil)
	before := rowsOf(t, p.siteDSN)
	p.stopRun()
	p.dropSlots() // first, or the site would follow
	dbtest.Exec(t, p.masterDSN, `set session_replication_role = replica;
		insert into certificate (issuer_id, serial, not_after) values (1, '\x0b', '2030-01-01 00:00Z')`)
	p.run(nil)
	p.until("the refusal", func() bool { return strings.Contains(p.log.String(), "its head disagree") })
	if after := rowsOf(t, p.siteDSN); strings.Join(after, "\n") != strings.Join(before, "\n") {
		t.Errorf("rows were %q, are %q", before, after)
	}
	dbtest.Exec(t, p.masterDSN, `set session_replication_role = replica; delete from certificate where serial = '\x0b'`)
	p.heals()
}

func TestSeedNeverTakesAPermanentRevocationBack(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b")
	p.revoke("0a", db.ReasonKeyCompromise)
	p.start(nil)
	p.seenAtSite("0a", "revoked keyCompromise")
	// A backup of the master from before the revocation, brought up in its place.
	p.stopRun()
	p.dropSlots()
	dbtest.Exec(t, p.masterDSN, `set session_replication_role = replica;
		update certificate set revoked_at = null, reason = null where serial = '\x0a';
		update feed_head set certificate_digest = (select mod64(sum(row_digest(certificate_canonical(issuer_id, serial, not_after, revoked_at, reason)))) from certificate)`)
	p.run(nil)
	p.reaches(logical.RevocationsLost)
	if got := p.siteSays("0a"); got != "revoked keyCompromise" {
		t.Errorf("the site says %s", got)
	}
	if !strings.Contains(p.state().Detail, "1/0a") {
		t.Errorf("the serial is not named: %s", p.state().Detail)
	}
	// Entered again with its time, as fleet lost says.
	known, err := p.site.Certificate(t.Context(), 1, serial("0a"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.master.Master.Revoke(t.Context(), 1, serial("0a"), db.ReasonKeyCompromise, known.RevokedAt, act); err != nil {
		t.Fatal(err)
	}
	p.heals()
}

func TestPasswordChangedAtTheMaster(t *testing.T) {
	master := dbtest.Cluster(t, nil) // logins belong to a cluster
	server, err := sites()
	if err != nil {
		t.Fatal(err)
	}
	p := newPairOn(t, dbtest.Migrated(t, master, "master", migrations.Master), server)
	p.start(nil)
	p.stopRun()
	p.replicaPassword = "another-password"
	p.makeLogins()
	dbtest.Exec(t, p.masterDSN, "select pg_terminate_backend(active_pid) from pg_replication_slots where active")
	p.issue("0a")
	p.start(nil)
	p.seenAtSite("0a", "good")
	p.heals()
	if n := p.state().Reseeds; n != 0 {
		t.Errorf("%d seeds for a new password", n)
	}
}

func TestMasterGoneAndBack(t *testing.T) {
	master := dbtest.Cluster(t, map[string]string{"max_slot_wal_keep_size": "16MB"})
	server, err := sites()
	if err != nil {
		t.Fatal(err)
	}
	p := newPairOn(t, dbtest.Migrated(t, master, "master", migrations.Master), server)
	p.issue("0a", "0b")
	p.start(nil)

	t.Run("killed", func(t *testing.T) {
		if err := master.Kill(); err != nil {
			t.Fatal(err)
		}
		p.reaches(logical.MasterUnreachable)
		if got := p.siteSays("0a"); got != "good" {
			t.Errorf("the site says %s", got)
		}
		if err := master.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.revoke("0a", db.ReasonKeyCompromise)
		p.seenAtSite("0a", "revoked keyCompromise")
		p.heals()
		if n := p.state().Reseeds; n != 1 {
			t.Errorf("%d seeds, want the first alone", n)
		}
	})
	t.Run("gave the slot up", func(t *testing.T) {
		p.stopRun()
		dbtest.Exec(t, p.siteDSN, "alter subscription ocspfleet disable")
		conn := dbtest.Connect(t, p.masterDSN)
		p.until("the slot is lost", func() bool {
			results, err := conn.PgConn().Exec(t.Context(), `select pg_switch_wal(); select txid_current(); checkpoint;
				select coalesce(bool_and(wal_status = 'lost'), false) from pg_replication_slots`).ReadAll()
			return err == nil && string(last(results)) == "t"
		})
		p.revoke("0b", db.ReasonKeyCompromise)
		p.run(nil)
		p.names(logical.SlotLost)
		p.seenAtSite("0b", "revoked keyCompromise")
		p.heals()
	})
}

// A frozen master keeps its connections open and says nothing.
func TestFrozenMasterIsNoticedAndCostsNothing(t *testing.T) {
	master := dbtest.Cluster(t, nil)
	server, err := sites()
	if err != nil {
		t.Fatal(err)
	}
	p := newPairOn(t, dbtest.Migrated(t, master, "master", migrations.Master), server)
	p.issue("0a")
	p.start(func(c *logical.Config) { c.MasterTimeout = 300 * time.Millisecond })
	var backends []int32
	err = dbtest.Connect(t, p.masterDSN).QueryRow(t.Context(), "select array_agg(pid) from pg_stat_activity").Scan(&backends)
	if err != nil {
		t.Fatal(err)
	}
	backends = append(backends, int32(master.PID()))
	signal := func(sig syscall.Signal) {
		for _, pid := range backends {
			_ = syscall.Kill(int(pid), sig) // some have ended meanwhile
		}
	}
	t.Cleanup(func() { signal(syscall.SIGCONT) })
	signal(syscall.SIGSTOP)
	p.reaches(logical.MasterUnreachable)
	before := runtime.NumGoroutine()
	time.Sleep(10 * p.config.MasterTimeout) // as many talks in vain
	if after := runtime.NumGoroutine(); after > before+8 {
		t.Errorf("goroutines went from %d to %d while the master was frozen", before, after)
	}
	signal(syscall.SIGCONT)
	p.revoke("0a", db.ReasonKeyCompromise)
	p.seenAtSite("0a", "revoked keyCompromise")
	p.heals()
}

func last(results []*pgconn.Result) []byte { return results[len(results)-1].Rows[0][0] }

func TestTombstonesAreTrimmed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.start(func(c *logical.Config) { c.TombstoneAge = 100 * time.Millisecond })
	dbtest.Exec(t, p.masterDSN, "delete from certificate")
	p.seenAtSite("0a", "never issued")
	time.Sleep(150 * time.Millisecond) // the tombstone's age
	if _, err := p.local.Site.TrimTombstones(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var left, trimmed, seq int64
	err := dbtest.Connect(t, p.siteDSN).QueryRow(t.Context(), `select (select count(*) from site_tombstone), trimmed_to, (select last_value from site_seq) from site_state`).
		Scan(&left, &trimmed, &seq)
	if err != nil || left != 0 || trimmed != seq {
		t.Errorf("%d left, trimmed to %d of %d, %v", left, trimmed, seq, err)
	}
}
