package db_test

import (
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// The tests named Break... keep what broke designs that were tried before this
// one: the head taken in the statement, transition tables joined, and so on.

func TestBreak1aDeleteAndInsertInOneStatement(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "0a", "0b", "0c")
	dbtest.Exec(t, dsn, `with d as (delete from certificate returning *)
		insert into certificate select issuer_id, '\x0d', not_after from d limit 1`)
	// The insert trigger fires before the delete trigger.
	dbtest.Exec(t, dsn, `with i as (insert into certificate values (1, '\x0e', '2040-01-01Z') returning *)
		delete from certificate where serial = '\x0d'`)
	assertConsistent(t, dsn)
}

func TestBreak1aAbsentRowIsTold(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "0a")
	dbtest.Exec(t, dsn, `begin; delete from certificate; insert into certificate values (1, '\x0a', '2041-01-01Z'); commit`)
	changes := assertConsistent(t, dsn)
	if last := changes[len(changes)-1]; last.Deleted {
		t.Error("the last change deletes a row that is there")
	}
}

func TestBreak1bKeyUpdateRefused(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "0a")
	refused(t, dsn, "cannot be changed", `update certificate set serial = '\x0b'`)
	refused(t, dsn, "cannot be changed", `update issuer set id = 2`)
	dbtest.Exec(t, dsn, `insert into responder (name, url) values ('site-a', 'http://a.example');
		insert into responder_certificate values (sha256('\x30'), 1, '\x0a', 'site-a', sha256('\x31'), '\x30')`)
	refused(t, dsn, "never changed: add the new one", `update responder_certificate set site = 'site-b'`)
	assertConsistent(t, dsn)
}

func TestBreak1cOnlyReadCommittedMayWrite(t *testing.T) {
	dsn, _ := newMaster(t)
	for _, level := range []string{"repeatable read", "serializable"} {
		refused(t, dsn, "must be READ COMMITTED", "begin isolation level "+level+`; insert into certificate values (1, '\x0a', '2040-01-01Z')`)
	}
}

// A plan that joins the transition tables, made for one row, took 4.2 s for
// 10,000 and grows with the square: 40,000 would take over a minute.
func TestBreak1dPlanMadeForOneRowServesMany(t *testing.T) {
	dsn, _ := newMaster(t)
	dbtest.Exec(t, dsn, `
		set statement_timeout = '20s';
		insert into certificate select 1, '\x11' || int8send(i), '2040-01-01Z' from generate_series(1, 40000) i;
		update certificate set not_after = '2040-01-02Z' where serial = '\x11' || int8send(1);
		update certificate set not_after = '2040-01-03Z' where serial = '\x11' || int8send(2);
		update certificate set not_after = '2040-01-04Z' where serial = '\x11' || int8send(3);
		update certificate set not_after = '2040-01-05Z'`)
	assertConsistent(t, dsn)
}

func TestTruncateRefused(t *testing.T) {
	dsn, _ := newMaster(t)
	for _, table := range []string{"certificate cascade", "issuer cascade", "responder_certificate", "feed_head", "ocsp_internal.audit", "ocsp_internal.change_tx", "ocsp_internal.change_body"} {
		refused(t, dsn, "TRUNCATE", "truncate "+table)
	}
}

func TestTriggersBypassedAreFoundByVerify(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "0a", "0b")
	dbtest.Exec(t, dsn, `set session_replication_role = replica; delete from certificate where serial = '\x0b'`)
	counts, err := store.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if c.Identical != (c.Table != "certificate") {
			t.Errorf("%s: identical is %v", c.Table, c.Identical)
		}
	}
}

// With the head taken in the statement this pair of transactions deadlocked.
func TestTwoWritersInOppositeOrderCommit(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01", "02")
	a, b := dbtest.Connect(t, dsn), dbtest.Connect(t, dsn)
	ctx := t.Context()
	if _, err := a.Exec(ctx, `begin; update certificate set not_after = '2041-01-01Z' where serial = '\x02'`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Exec(ctx, `begin; select from certificate where serial = '\x01' for update`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(ctx, `update certificate set not_after = '2042-01-01Z' where serial = '\x01'; commit`)
		done <- err
	}()
	if err := <-done; err != nil { // b does not wait for a's head
		t.Fatal(err)
	}
	if _, err := a.Exec(ctx, `update certificate set not_after = '2043-01-01Z' where serial = '\x01'; commit`); err != nil {
		t.Fatal(err)
	}
	assertConsistent(t, dsn)
}

func TestOpenTransactionDelaysNeitherHeartbeatNorRevocation(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01", "02")
	ca := dbtest.Connect(t, dsn)
	if _, err := ca.Exec(t.Context(), `begin; insert into certificate values (1, '\x03', '2040-01-01Z'); update certificate set not_after = '2040-01-01Z' where serial = '\x01'`); err != nil {
		t.Fatal(err)
	}
	// Both would fail at once if they had to wait for the open transaction.
	slow := dsn + "&options=-c%20lock_timeout%3D1s"
	quick := open(t, slow)
	if _, _, err := dbtest.Open(t, slow).Publisher.Heartbeat(t.Context(), -1); err != nil {
		t.Errorf("heartbeat beside an open transaction: %v", err)
	}
	if _, changed, err := quick.Revoke(t.Context(), 1, db.Serial{2}, db.ReasonKeyCompromise, time.Time{}, act); err != nil || !changed {
		t.Errorf("revocation beside an open transaction: changed %v, %v", changed, err)
	}
	if _, err := ca.Exec(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	assertConsistent(t, dsn)
}

func TestConstraintsImmediateAndSavepointsKeepOneBlock(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	dbtest.Exec(t, dsn, `begin;
		set constraints all immediate;
		insert into certificate values (1, '\x02', '2040-01-01Z'), (1, '\x03', '2040-01-01Z');
		savepoint s;
		delete from certificate where serial = '\x02';
		rollback to s;
		update certificate set revoked_at = '2026-01-01Z', reason = 6 where serial = '\x03';
		set constraints all deferred;
		delete from certificate where serial = '\x02';
		commit`)
	assertConsistent(t, dsn)
}

func TestNoChangeTakesNoPosition(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	before, _ := store.Head(t.Context())
	dbtest.Exec(t, dsn, `update certificate set not_after = not_after; delete from certificate where false; insert into certificate select * from certificate where false;
		insert into certificate select * from certificate on conflict do nothing`)
	after, err := store.Head(t.Context())
	if err != nil || after.Position != before.Position {
		t.Errorf("position went from %d to %d (%v)", before.Position, after.Position, err)
	}
}

func TestHeartbeatNeverGoesBackNorRunsAhead(t *testing.T) {
	dsn, store := newMaster(t)
	publisher := dbtest.Open(t, dsn).Publisher
	ctx := t.Context()
	first, capped, err := publisher.Heartbeat(ctx, -1)
	if err != nil || capped {
		t.Fatalf("first heartbeat: capped %v, %v", capped, err)
	}
	// As if the master's clock had jumped an hour ahead since the last one.
	dbtest.Exec(t, dsn, "update heartbeat set confirmed_at = confirmed_at - interval '1 hour'")
	second, capped, err := publisher.Heartbeat(ctx, 5*time.Second)
	if err != nil || !capped {
		t.Errorf("after a jump of an hour: capped %v, %v", capped, err)
	}
	if second.Before(first) {
		t.Errorf("as_of went back from %v to %v", first, second)
	}
	// A change does not carry as_of past the heartbeat's limit, either.
	dbtest.Exec(t, dsn, "update heartbeat set confirmed_at = clock_timestamp() - interval '1 hour'; update feed_head set as_of = clock_timestamp() - interval '1 hour'")
	mustIssue(t, store, "01")
	head, _ := store.Head(ctx)
	if age := time.Since(head.AsOf); age < 59*time.Minute {
		t.Errorf("a change confirmed the clock without a heartbeat: as_of is %v old", age)
	}
	dbtest.Exec(t, dsn, "update feed_head set as_of = clock_timestamp() + interval '1 hour'")
	ahead, _, err := publisher.Heartbeat(ctx, -1)
	if err != nil || time.Until(ahead) < 59*time.Minute {
		t.Errorf("a clock stepping back moved as_of to %v (%v)", ahead, err)
	}
}

// The master's clock goes back an hour for some minutes, and is right again: the next
// heartbeat knows it, and meanwhile what is on hold can be revoked.
func TestAClockThatWentBackHealsAtTheNextHeartbeat(t *testing.T) {
	dsn, store := newMaster(t)
	publisher := dbtest.Open(t, dsn).Publisher
	ctx := t.Context()
	mustIssue(t, store, "01")
	if _, _, err := store.Hold(ctx, 1, db.Serial{1}, act); err != nil {
		t.Fatal(err)
	}
	if _, _, err := publisher.Heartbeat(ctx, -1); err != nil {
		t.Fatal(err)
	}
	// As if all of this had been done an hour from now: the clock is behind it.
	dbtest.Exec(t, dsn, `update heartbeat set confirmed_at = confirmed_at + interval '1 hour';
		update feed_head set as_of = as_of + interval '1 hour';
		set session_replication_role = replica;
		update certificate set revoked_at = revoked_at + interval '1 hour'`)
	before, err := store.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 24 { // two minutes
		if asOf, capped, err := publisher.Heartbeat(ctx, 5*time.Second); err != nil || capped || !asOf.Equal(before.AsOf) {
			t.Fatalf("while the clock is behind: as_of %v after %v, capped %v, %v", asOf, before.AsOf, capped, err)
		}
	}
	if is, changed, err := store.Revoke(ctx, 1, db.Serial{1}, db.ReasonKeyCompromise, time.Time{}, act); err != nil || !changed || !is.Permanent() {
		t.Errorf("what is on hold is revoked: %+v, %v, %v", is, changed, err)
	}
	// The clock is right again: two minutes have passed since.
	dbtest.Exec(t, dsn, `update heartbeat set confirmed_at = confirmed_at - interval '1 hour 2 minutes';
		update feed_head set as_of = clock_timestamp() - interval '2 minutes'`)
	asOf, capped, err := publisher.Heartbeat(ctx, 5*time.Second)
	if err != nil || capped || time.Since(asOf) > 30*time.Second {
		t.Errorf("after it: as_of %v, capped %v, %v", asOf, capped, err)
	}
}

func TestBreak2cMigrationsMakeNoHeadRow(t *testing.T) {
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		if _, err := open(t, dbtest.New(t, role)).Head(t.Context()); err != db.ErrNoHead {
			t.Errorf("%s: head after migration: %v", role, err)
		}
	}
}

func TestWritingWithoutHeadNamesTheFix(t *testing.T) {
	store := open(t, dbtest.New(t, migrations.Master))
	_, err := store.AddIssuer(t.Context(), testIssuer(1), act)
	if want := `adding issuer "issuer-1": this master has no head (Run ocspctl db init.)`; err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestPositionAtIsTheLastChangeCommittedByThen(t *testing.T) {
	_, store := newMaster(t)
	mustIssue(t, store, "01", "02")
	head, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Time]int64{time.Now().Add(-time.Hour): 0, time.Now().Add(time.Hour): head.Position} {
		if got, err := store.PositionAt(t.Context(), at); err != nil || got != want {
			t.Errorf("position at %s: %d, want %d (%v)", at, got, want, err)
		}
	}
}
