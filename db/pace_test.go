package db_test

import (
	"context"
	"errors"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/dbtest"
	"ocspfleet/migrations"
)

// Where no site follows, nothing is waited for; a caller that goes is let go.
func TestPaceWaitsForNobody(t *testing.T) {
	store, err := db.Open(t.Context(), db.Config{DSN: dbtest.New(t, migrations.Master)})
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
