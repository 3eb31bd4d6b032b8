package watchdog

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/dbtest"
	"ocspfleet/migrations"
)

// master is a master with one issuer and one certificate, and a watchdog.
func master(t *testing.T, limits Limits) (string, *db.Store, *Watchdog) {
	t.Helper()
	dsn := dbtest.New(t, migrations.Master)
	open := func(dsn string) *db.Store {
		store, err := db.Open(t.Context(), db.Config{DSN: dsn, MaxConns: 8})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		return store
	}
	store := open(dsn)
	if err := store.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	dbtest.Exec(t, dsn, `insert into issuer values (1, sha256('k'), 'ca', '\x30', 86400, 300, 43200, 900, 3600, 'unknown', 'revocable', '', 1);
		insert into certificate values (1, '\x01', '2099-01-01Z'), (1, '\x02', '2099-01-01Z')`)
	w := New(Config{Store: open(dbtest.As(dsn, "ocsp_publisher")), Limits: limits, Look: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dsn, store, w
}

// As an ordinary login: SET ROLE would leave it a superuser's session.
func attacker(t *testing.T, dsn, name string, store *db.Store) string {
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
		if _, _, err := store.Revoke(ctx, 1, mustSerial(t), db.ReasonCertificateHold, time.Time{}, db.Act{}); err != nil {
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
	dsn, store, w := master(t, quick)
	conn := dbtest.Connect(t, dsn)
	if _, err := conn.Exec(t.Context(), `begin; select certificate_hold(1, '\x02', '', ''); set constraints all immediate`); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, _, err := store.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{})
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
	dsn, store, _ := master(t, Limits{})
	conn := dbtest.Connect(t, attacker(t, dsn, "large_commit", store))
	if _, err := conn.Exec(t.Context(), `begin; select certificate_import(1, array(select '\x43'::bytea || int4send(g) from generate_series(1, 270000) g),
		array_fill('2099-01-01Z'::timestamptz, array[270000]), array_fill(null::timestamptz, array[270000]), array_fill(null::smallint, array[270000]), '{}', '', '')`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "commit"); err != nil {
		t.Error(err)
	}
	if _, _, err := store.Revoke(t.Context(), 1, mustSerial(t), db.ReasonKeyCompromise, time.Time{}, db.Act{}); err != nil {
		t.Error(err)
	}
}

// A transaction of over 10 minutes keeps what was deleted on the disk; an allowed login may.
func TestOldTransactionsAreJudged(t *testing.T) {
	at := time.Now()
	m := &memory{limits: quick, turns: map[string][]turn{}, ended: map[key]time.Time{}}
	end, _ := m.judge(at, []db.Blocker{{PID: 1, Login: "a", Old: true}})
	if len(end) != 1 || !strings.Contains(end[0].why, "10 minutes") {
		t.Errorf("%v", end)
	}
	if end, _ := m.judge(at.Add(time.Second), []db.Blocker{{PID: 1, Login: "a", Old: true}}); len(end) != 0 {
		t.Errorf("ended twice: %v", end)
	}
}

// Short turns of one login, no one of them long, add up; busy COMMITs do not.
func TestShortTurnsAddUp(t *testing.T) {
	limits := Limits{Wait: 5 * time.Second, Root: 10 * time.Second, Share: 30 * time.Second, Window: time.Minute}
	run := func(idle bool) (ended time.Duration) {
		m := &memory{limits: limits, turns: map[string][]turn{}, ended: map[key]time.Time{}}
		at := time.Now()
		for n := range 240 {
			b := db.Blocker{PID: int32(n), Login: "thief", Head: true, Idle: idle}
			if end, _ := m.judge(at.Add(time.Duration(n)*250*time.Millisecond), []db.Blocker{b}); len(end) > 0 {
				return time.Duration(n) * 250 * time.Millisecond
			}
		}
		return 0
	}
	if ended := run(true); ended < 30*time.Second || ended > 32*time.Second {
		t.Errorf("idle with the head by turns: ended after %s", ended)
	}
	if ended := run(false); ended != 0 {
		t.Errorf("busy COMMITs: ended after %s", ended)
	}
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
