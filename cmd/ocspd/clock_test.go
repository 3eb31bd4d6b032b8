package main

import (
	"regexp"
	"testing"
	"time"

	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
)

// ocspd's clock was an hour ahead, its revoked answers lay 55 minutes in the future, and
// /readyz said 200.
func TestOwnClockOffTheDatabasesIsADoubt(t *testing.T) {
	store, err := sitedb.Open(t.Context(), tables.Config{DSN: dbtest.Server(t).DSN("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	var off time.Duration
	w := &clockWatch{store: store, now: func() time.Time { return time.Now().Add(off) }}
	for _, test := range []struct {
		off  time.Duration
		want string // a regular expression: a slow answer of the database costs seconds
	}{
		{time.Hour, "^clock: ocspd's clock is (1h0m|59m5)[0-9]s off its database's"},
		{4 * time.Minute, "^$"},
		{-time.Hour, "^clock: ocspd's clock is -(1h0m|59m5)[0-9]s off its database's"},
		{0, "^$"},
	} {
		off = test.off
		w.check(t.Context())
		if doubt := w.Doubt(); !regexp.MustCompile(test.want).MatchString(doubt) {
			t.Errorf("%s off: %q", test.off, doubt)
		}
	}
	store.Close()
	off = time.Hour
	w.check(t.Context())
	if w.Doubt() != "" {
		t.Error("a database that is away is no clock that is wrong")
	}
}
