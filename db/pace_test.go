package db_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// Where no site follows, nothing is waited for; a caller that goes is let go.
func TestPaceWaitsForNobody(t *testing.T) {
	store, err := masterdb.Open(t.Context(), pg.Config{DSN: dbtest.New(t, migrations.Master)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	pace := store.NewPace()
	for range 10 {
		if err := pace.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pace.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting after the end: %v", err)
	}
}

// A bulk writer goes on when the master has noted that the site which follows
// the feed has what it wrote, and not before.
func TestPaceFollowsWhatSitesHave(t *testing.T) {
	dsn := dbtest.New(t, migrations.Master)
	store, err := masterdb.Open(t.Context(), pg.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ca, err := masterdb.Open(t.Context(), pg.Config{DSN: dbtest.As(dsn, "ocsp_ca")})
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	who := db.Act{User: "tester", Why: "test"}
	if err := store.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddResponder(t.Context(), "site-a", "http://a.example/", nil, who); err != nil {
		t.Fatal(err)
	}
	saw := func(position int64) {
		t.Helper()
		if err := dbtest.Open(t, dsn).Publisher.SawFeedClients(t.Context(), []db.FeedClient{{Site: "site-a", Position: position, SeenAt: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	conn := dbtest.Connect(t, dsn)
	write := func() int64 {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "update feed_head set position = position + 5000"); err != nil {
			t.Fatal(err)
		}
		head, err := store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return head.Position
	}
	saw(0)
	pace, began := ca.NewPace(), time.Now()
	for range 2 {
		if err := pace.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		write()
	}
	waited := make(chan error, 1)
	go func() { waited <- pace.Wait(t.Context()) }()
	select {
	case err := <-waited:
		if time.Since(began) < 9*time.Second { // else the site was silent for too long
			t.Fatalf("did not wait for the site: %v", err)
		}
		waited <- err
	case <-time.After(300 * time.Millisecond):
	}
	saw(5000)
	select {
	case err := <-waited:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("waits for ever")
	}
}
