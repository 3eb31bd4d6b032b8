package schema_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"ocspfleet/cmd/internal/schema"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// A trigger is dropped under a daemon that may only read: it says so, and that it is there again.
func TestADroppedTriggerIsToldUntilItIsBack(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for several rounds")
	}
	dsn := dbtest.New(t, migrations.Site)
	store, err := tables.Open(t.Context(), tables.Config{DSN: dbtest.As(dsn, "ocsp_responder")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	dbtest.Exec(t, dsn, "drop trigger site_touch on certificate; drop trigger site_deleted on certificate; drop trigger site_notify on feed_head; alter table certificate drop constraint certificate_pkey")
	w := &schema.Watch{Store: store, Role: migrations.Site, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	eventually := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); w.Fault() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%q, want %q", w.Fault(), want)
			}
		}
	}
	eventually("schema: constraint certificate_pkey on public.certificate is gone; trigger site_deleted on public.certificate is gone; trigger site_notify on public.feed_head is gone; and 1 more: ocspctl db migrate --repair")
	if _, err := migrations.Repair(t.Context(), dsn, migrations.Site); err != nil {
		t.Fatal(err)
	}
	eventually("")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
