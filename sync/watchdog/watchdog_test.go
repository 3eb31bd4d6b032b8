package watchdog

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// master is a master on the shared server, and its watchdog.
func master(t *testing.T, limits Limits) (string, *dbtest.Database, *Watchdog) {
	t.Helper()
	dsn := dbtest.New(t, migrations.Master)
	store, w := watched(t, dsn, limits)
	return dsn, store, w
}

// watched gives a master's database an issuer, two certificates and a watchdog.
func watched(t *testing.T, dsn string, limits Limits) (*dbtest.Database, *Watchdog) {
	t.Helper()
	open := func(dsn string) *dbtest.Database {
		store := dbtest.OpenWith(t, tables.Config{DSN: dsn, MaxConns: 8})
		return store
	}
	store := open(dsn)
	if err := store.Master.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, dsn, `insert into issuer values (1, sha256('k'), 'ca', '\x30', 86400, 300, 43200, 900, 3600, 'unknown', 'revocable', '', 1);
		insert into certificate values (1, '\x01', '2099-01-01Z'), (1, '\x02', '2099-01-01Z')`)
	w := New(Config{Store: open(dbtest.As(dsn, "ocsp_publisher")).Publisher, Limits: limits, Poll: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return store, w
}

// As an ordinary login: SET ROLE would leave it a superuser's session.
func attacker(t *testing.T, dsn, name string, store *dbtest.Database) string {
	t.Helper()
	if err := store.CreateLogin(t.Context(), name, db.RoleCA, "a-good-password", db.Act{}); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(dsn, "@")
	return "postgres://" + name + ":a-good-password@" + rest
}

var quick = Limits{Wait: time.Second, Root: time.Second, Share: time.Second, Window: 10 * time.Second}

// Each keeps everybody, or one certificate, from being revoked, for as long as it likes.
func TestWhoStopsTheMasterIsEnded(t *testing.T) {
	t.Parallel()
	dsn, store, _ := master(t, quick)
	for name, sql := range map[string]string{
		"by_the_head":  `select certificate_issue(1, '\x0a', '2099-01-01Z', '', ''); set constraints all immediate`,
		"by_the_row":   `select certificate_hold(1, '\x02', '', '')`,
		"by_the_table": `lock table certificate in access share mode; select certificate_hold(1, '\x02', '', ''); set constraints all immediate`,
	} {
		conn := dbtest.Connect(t, attacker(t, dsn, name, store))
		if _, err := conn.Exec(t.Context(), "begin; "+sql); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, _, err := store.Master.Revoke(ctx, 1, mustSerial(t), db.ReasonCertificateHold, time.Time{}, db.Act{}); err != nil {
			t.Errorf("%s: revoking meanwhile: %v", name, err)
		}
		cancel()
		if _, err := conn.Exec(t.Context(), "commit"); err == nil {
			t.Errorf("%s: its session lived on", name)
		}
		dbtest.Exec(t, dsn, `select certificate_release(1, '\x02', '', '')`)
		await(t, dsn, `select exists (select from audit where act = 'watchdog end' and what ->> 'login' = '`+name+`' and n is not null)`)
	}
}

// A superuser is named, not ended, and /readyz says so.
func TestASuperuserIsNamed(t *testing.T) {
	t.Parallel()
	dsn, store, w := master(t, quick)
	conn := dbtest.Connect(t, dsn)
	if _, err := conn.Exec(t.Context(), `begin; select certificate_hold(1, '\x02', '', ''); set constraints all immediate`); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, _, err := store.Master.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{})
		waiting <- err
	}()
	for w.Trouble() == "" {
		time.Sleep(20 * time.Millisecond)
	}
	if trouble := w.Trouble(); !strings.Contains(trouble, "superuser") {
		t.Error(trouble)
	}
	if _, err := conn.Exec(t.Context(), "commit"); err != nil {
		t.Error("the superuser's session was ended:", err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	for w.Trouble() != "" {
		time.Sleep(20 * time.Millisecond)
	}
}

// A large COMMIT is let go by, though others wait for it.
func TestALargeCommitSurvives(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 270000 rows")
	}
	t.Parallel()
	dsn, store, _ := master(t, Limits{})
	conn := dbtest.Connect(t, attacker(t, dsn, "large_commit", store))
	if _, err := conn.Exec(t.Context(), `begin; select certificate_import(1, array(select '\x43'::bytea || int4send(g) from generate_series(1, 270000) g),
		array_fill('2099-01-01Z'::timestamptz, array[270000]), array_fill(null::timestamptz, array[270000]), array_fill(null::smallint, array[270000]), '{}', '', '')`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "commit"); err != nil {
		t.Error(err)
	}
	if _, _, err := store.Master.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{}); err != nil {
		t.Error(err)
	}
}

// A transaction of over 10 minutes keeps what was deleted on the disk; an allowed login may.
func TestOldTransactionsAreJudged(t *testing.T) {
	at := time.Now()
	m := &memory{limits: quick, turns: map[string][]turn{}, ended: map[key]time.Time{}}
	end, _ := m.check(at, []db.Blocker{{PID: 1, Login: "a", Old: true}})
	if len(end) != 1 || !strings.Contains(end[0].why, "10 minutes") {
		t.Errorf("%v", end)
	}
	if end, _ := m.check(at.Add(time.Second), []db.Blocker{{PID: 1, Login: "a", Old: true}}); len(end) != 0 {
		t.Errorf("ended twice: %v", end)
	}
}

// Short turns of one login, no one of them long, add up where it does nothing meanwhile
// or others wait for long; those of a CA that issues without pause do not.
func TestShortTurnsAddUp(t *testing.T) {
	for what, b := range map[string]db.Blocker{"idle": {Idle: true}, "others wait": {Waits: true}, "busy COMMITs": {}} {
		m := shipped()
		at, ended := time.Now(), time.Duration(0)
		b.Login, b.Head = "thief", true
		for n := int32(0); n < 240 && ended == 0; n++ {
			b.PID = n
			if end, _ := m.check(at.Add(time.Duration(n)*250*time.Millisecond), []db.Blocker{b}); len(end) > 0 {
				ended = time.Duration(n) * 250 * time.Millisecond
			}
		}
		if honest := what == "busy COMMITs"; honest && ended != 0 || !honest && (ended < 30*time.Second || ended > 32*time.Second) {
			t.Errorf("%s: ended after %s", what, ended)
		}
	}
}

// shipped judges by the limits that ocspsyncd has.
func shipped() *memory {
	return &memory{limits: New(Config{}).cfg.Limits, turns: map[string][]turn{}, ended: map[key]time.Time{}}
}

// ocspsyncd sets no limit of its own: somebody has to wait 5 s, and then 10 s more.
func TestTheShippedLimitsAreFiveAndTenSeconds(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for both limits")
	}
	t.Parallel()
	if want := (Limits{Wait: 5 * time.Second, Root: 10 * time.Second, Share: 30 * time.Second, Window: time.Minute}); shipped().limits != want {
		t.Errorf("%+v", shipped().limits)
	}
	dsn, store, _ := master(t, Limits{})
	if _, err := dbtest.Connect(t, attacker(t, dsn, "shipped_limits", store)).Exec(t.Context(), `begin; select certificate_hold(1, '\x02', '', '')`); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, _, err := store.Master.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{}); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited < 15*time.Second {
		t.Errorf("the session in the way was ended after %s", waited)
	}
}

// A COMMIT that waits for a standby has the head. It is named and not ended, and the
// watchdog itself waits for no standby.
func TestAWaitForAStandbyIsSpared(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, nil)
	dsn := dbtest.Migrated(t, server, "master", migrations.Master)
	store, w := watched(t, dsn, quick)
	conn := dbtest.Connect(t, attacker(t, dsn, "no_standby", store))
	standby := func(name string) {
		t.Helper()
		dbtest.Exec(t, dsn, "alter system set synchronous_standby_names = '"+name+"'")
		dbtest.Exec(t, dsn, "select pg_reload_conf()")
		await(t, dsn, "select current_setting('synchronous_standby_names') = '"+name+"'")
	}
	standby("nobody")
	committed, revoked := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), `select certificate_hold(1, '\x01', '', '')`)
		committed <- err
	}()
	await(t, dsn, "select exists (select from pg_stat_activity where usename = 'no_standby' and wait_event = 'SyncRep')")
	go func() {
		_, _, err := store.Master.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{})
		revoked <- err
	}()
	for w.Trouble() == "" { // when it would be ended
		time.Sleep(20 * time.Millisecond)
	}
	if trouble := w.Trouble(); !strings.Contains(trouble, "login no_standby") || !strings.Contains(trouble, "it waits for a standby") {
		t.Error(trouble)
	}
	await(t, dsn, "select count(*) = 1 from pg_stat_activity where wait_event = 'SyncRep' and backend_type = 'client backend'")
	standby("")
	if err := <-committed; err != nil {
		t.Error("the session that waited for a standby was ended:", err)
	}
	if err := <-revoked; err != nil {
		t.Error(err)
	}
	for w.Trouble() != "" {
		time.Sleep(20 * time.Millisecond)
	}
}

// Sessions of another database in the cluster wait for each other as they like.
func TestWaitsInAnotherDatabaseAreItsOwn(t *testing.T) {
	t.Parallel()
	dsn, store, _ := master(t, quick)
	other := dbtest.New(t, migrations.Master)
	dbtest.Exec(t, other, "create table x (); grant select on x to ocsp_ca")
	holds, waits := dbtest.Connect(t, attacker(t, other, "other_database", store)), dbtest.Connect(t, other)
	if _, err := holds.Exec(t.Context(), "begin; lock table x in access share mode"); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := waits.Exec(t.Context(), "alter table x add column y int")
		got <- err
	}()
	// Who does the same here is ended meanwhile, and later.
	await(t, other, "select exists (select from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database() and waitstart < clock_timestamp() - interval '1 s')")
	if _, err := dbtest.Connect(t, attacker(t, dsn, "this_database", store)).Exec(t.Context(), `begin; select certificate_hold(1, '\x02', '', '')`); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Master.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{}); err != nil {
		t.Error(err)
	}
	if _, err := holds.Exec(t.Context(), "commit"); err != nil {
		t.Error("a session of another database was ended:", err)
	}
	<-got
}

func await(t *testing.T, dsn, sql string) {
	t.Helper()
	conn := dbtest.Connect(t, dsn)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var done bool
		if err := conn.QueryRow(t.Context(), sql).Scan(&done); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never true: %s", sql)
		}
	}
}

func mustSerial(t *testing.T) db.Serial {
	t.Helper()
	serial, err := db.ParseSerial("02")
	if err != nil {
		t.Fatal(err)
	}
	return serial
}
