package heartbeat_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/publisherdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/heartbeat"

	"github.com/prometheus/client_golang/prometheus"
)

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// eventually waits until done says true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// start runs a heartbeat on a new master, as the publisher's login.
func start(t *testing.T, log *logBuffer) (dsn string, h *heartbeat.Heartbeat, admin *masterdb.DB) {
	t.Helper()
	dsn = dbtest.New(t, migrations.Master)
	admin, err := masterdb.Open(t.Context(), tables.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	if err := admin.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	store, err := publisherdb.Open(t.Context(), tables.Config{DSN: dbtest.As(dsn, "ocsp_publisher"), Application: "heartbeat-test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	h = heartbeat.New(heartbeat.Config{
		Store: store, Interval: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: heartbeat.NewMetrics(prometheus.NewRegistry()),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("a wished stop gave %v", err)
		}
	})
	return dsn, h, admin
}

func TestHeartbeatMovesAsOfWithoutAPosition(t *testing.T) {
	var log logBuffer
	_, h, admin := start(t, &log)
	first, err := admin.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var later db.Head
	eventually(t, "as_of moves", func() bool {
		if later, err = admin.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
		// What a beat wrote is seen before Run hears of it: the trouble ends a moment later.
		return later.AsOf.Sub(first.AsOf) > 200*time.Millisecond && h.Trouble() == ""
	})
	if later.Position != first.Position {
		t.Errorf("position went from %d to %d", first.Position, later.Position)
	}
}

func TestHeartbeatNamesWhoHoldsTheHead(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the end of a lock")
	}
	var log logBuffer
	dsn, h, _ := start(t, &log)
	eventually(t, "a first heartbeat", func() bool { return h.Trouble() == "" })
	tx, err := dbtest.Connect(t, dsn+"&application_name=forgotten-window").Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select from feed_head for update"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the alarm", func() bool { return strings.Contains(log.String(), "cannot be confirmed") })
	if !strings.Contains(log.String(), "forgotten-window") || !strings.Contains(h.Trouble(), "were missed: confirming the head: ") {
		t.Errorf("the blocker is not named, or all is said to be well (%q):\n%s", h.Trouble(), log.String())
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the all-clear", func() bool { return h.Trouble() == "" && strings.Contains(log.String(), "head confirmed again") })
}
