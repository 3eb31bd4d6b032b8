package db_test

import (
	"net/url"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
)

// as is the address of the database for a login that person made.
func as(t *testing.T, dsn, login string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, "a password for tests")
	return u.String()
}

// issued registers customers' certificates more than an hour ago, as far as the limit can see.
func issued(t *testing.T, dsn string, first, last int) {
	t.Helper()
	conn := dbtest.Connect(t, dsn)
	if _, err := conn.Exec(t.Context(), `insert into certificate select 1, '\x40' || int2send(i::int2), '2099-01-01Z' from generate_series($1::int, $2::int) i`, first, last); err != nil {
		t.Fatal(err)
	}
}

// revokeMany revokes certificates of issued and counts those that were let.
func revokeMany(t *testing.T, login *masterdb.DB, first, last int) (done int) {
	t.Helper()
	for i := first; i <= last; i++ {
		if _, changed, err := login.Revoke(t.Context(), 1, db.Serial{0x40, byte(i >> 8), byte(i)}, db.ReasonNone, time.Time{}, act); err == nil && changed {
			done++
		}
	}
	return done
}

// One login, or all the CA's software together, uses up its own limit and no person's.
func TestNoServiceUsesUpThePersonsLimit(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	second := person(t, dsn, store, "test_software2", db.RoleCA)
	third := person(t, dsn, store, "test_software3", db.RoleCA)
	setLimit(t, store, 3)
	issued(t, dsn, 1, 100)
	for _, step := range []struct {
		who   string
		login *masterdb.DB
		want  int
	}{
		{"a service", software, 3},   // its own limit
		{"a second one", second, 3},  // services together: twice that
		{"a third one", third, 0},    // is too late
		{"a person", anna, 3},        // has a limit of their own
		{"a second person", bert, 0}, // all together: three times that
	} {
		if n := revokeMany(t, step.login, 1, 20); n != step.want {
			t.Errorf("%s revoked %d, want %d", step.who, n, step.want)
		}
	}
	assertConsistent(t, dsn)
}

// What a login has issued within the hour it may take back within its own limit, and
// nobody else's suffers.
func TestWhatALoginIssuedJustNowCountsAgainstItAlone(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, software := staff(t, dsn, store)
	second := person(t, dsn, store, "test_software2", db.RoleCA)
	third := person(t, dsn, store, "test_software3", db.RoleCA)
	setLimit(t, store, 3)
	issued(t, dsn, 1, 40)
	for n, login := range []*masterdb.DB{software, second} {
		for i := range 3 {
			if _, err := login.Issue(t.Context(), 1, db.Serial{0x50, byte(n), byte(i)}, year, act); err != nil {
				t.Fatal(err)
			}
		}
		batch := rows(false, 1, 2, 3, 4)
		for i := range batch {
			batch[i].Serial = db.Serial{0x51, byte(n), byte(i)}
		}
		if _, _, _, err := login.ImportBatch(t.Context(), 1, batch, masterdb.ImportSource{Form: "test"}, act); err != nil {
			t.Fatal(err)
		}
		done := 0
		for i := range 3 {
			for _, serial := range []db.Serial{{0x50, byte(n), byte(i)}, {0x51, byte(n), byte(i)}} {
				if _, changed, err := login.Revoke(t.Context(), 1, serial, db.ReasonNone, time.Time{}, act); err == nil && changed {
					done++
				}
			}
		}
		if done != 3 {
			t.Errorf("service %d took back %d of its own, want its limit of 3", n, done)
		}
	}
	if n := revokeMany(t, third, 1, 10); n != 3 {
		t.Errorf("another service revoked %d, want its limit of 3", n)
	}
	if n := revokeMany(t, anna, 11, 20); n != 3 {
		t.Errorf("a person revoked %d, want their limit of 3", n)
	}
	assertConsistent(t, dsn)
}

// A program neither asks for an approval nor gives one; two persons give it an allowance.
func TestApprovalsArePersons(t *testing.T) {
	dsn, store := newMaster(t)
	anna, bert, software := staff(t, dsn, store)
	robot := person(t, dsn, store, "test_robot", db.RoleOperator)
	if is, err := store.CreateLoginWith(t.Context(), "test_robot", db.RoleOperator, "a password for tests", tables.LoginOptions{Kind: db.KindService}, act); err != nil || is.Kind != db.KindService {
		t.Fatal(is, err)
	}
	if is, err := store.CreateLoginWith(t.Context(), "test_robot", db.RoleOperator, "a password for tests", tables.LoginOptions{}, act); err != nil || is.Kind != db.KindService {
		t.Error("with its password its kind was changed", is, err)
	}
	setLimit(t, store, 0)
	issued(t, dsn, 1, 10)
	for _, login := range []string{"test_software", "test_robot"} {
		if err := run(t, dsn, login, `select approval_request('bulk', '{"count": 2, "login": "test_software"}', 'x', '')`); err == nil {
			t.Errorf("%s may ask for an approval", login)
		}
	}
	if err := run(t, dsn, "test_anna", `select approval_request('bulk', '{"count": 2, "login": "test_software"}', 'x', '')`); err != nil {
		t.Fatal(err)
	}
	list, err := anna.Approvals(t.Context(), true, 10)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	wantError(t, "a program approves", "person", robot.Approve(t.Context(), list[0].ID, act))
	wantError(t, "a program refuses", "person", robot.Refuse(t.Context(), list[0].ID, act))
	if err := bert.Approve(t.Context(), list[0].ID, act); err != nil {
		t.Fatal(err)
	}
	if n := revokeMany(t, anna, 1, 2); n != 0 {
		t.Errorf("the one who asked revoked %d by an allowance that names another", n)
	}
	if n := revokeMany(t, software, 1, 10); n != 2 {
		t.Errorf("the login that two persons named revoked %d, want 2", n)
	}
	if err := run(t, dsn, "test_anna", `select approval_request('bulk', '{"count": 2, "login": "nobody_such"}', 'x', '')`); err == nil {
		t.Error("an allowance for a login that does not exist")
	}
	assertConsistent(t, dsn)
}
