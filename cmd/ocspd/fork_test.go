package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/ops/config"
	"ocspfleet/sync/feed"

	"github.com/prometheus/client_golang/prometheus"
)

// A fork ages the copy and takes no site out of a balancer, unless the configuration
// wants good to end; it counts only while the newest key set admits who signed.
func TestAForkShowsAndEndsGoodOnlyWhereWanted(t *testing.T) {
	dsn := dbtest.New(t, migrations.Site)
	store, err := sitedb.Open(t.Context(), tables.Config{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	root, stolen, next := feedKey(t), feedKey(t), feedKey(t)
	ours, keys := keySet(t, root, stolen, 1)
	c := feed.NewCheckpoint(origin, db.Head{Epoch: 1, Position: 7, AsOf: time.Now(), AuditCount: 1, AuditHash: make([]byte, 32)}, time.Time{})
	c.KeySet = 1
	theirs, err := c.Sign(stolen)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.KeepFeedKeys(t.Context(), 1, keys); err != nil {
		t.Fatal(err)
	}
	if _, err := dbtest.Connect(t, dsn).Exec(t.Context(), "insert into feed_fork (source, why, ours, theirs) values ('https://peer.example', 'two of position 7', $1, $2)", ours, theirs); err != nil {
		t.Fatal(err)
	}
	trusted, err := openTrusted(config.OcspdFeed{Root: root.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	for on, doubts := range map[string]bool{config.ForkAge: false, config.ForkStopGood: true} {
		w := forksOf(config.OcspdFeed{Root: root.Verifier(), OnFork: on}, store, trusted, slog.New(slog.DiscardHandler))
		w.check(t.Context())
		admin := boot.Admin{Metrics: prometheus.NewRegistry(), Ready: func(context.Context) []string { return nil }, Forks: w.Forks}
		answer := httptest.NewRecorder()
		admin.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/readyz", nil))
		var body struct {
			Ready bool
			Forks []string
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || answer.Code != http.StatusOK || !body.Ready || len(body.Forks) != 1 || !strings.Contains(body.Forks[0], "peer.example") {
			t.Errorf("%s: readyz %d %s, %v", on, answer.Code, answer.Body, err)
		}
		if got := w.Doubt() != ""; got != doubts {
			t.Errorf("%s: doubt %q", on, w.Doubt())
		}
	}
	// The ban of the key that signed both settles it.
	now := time.Now()
	set := feed.KeySet{Origin: origin, Number: 2, Epoch: 1, Banned: []string{stolen.Verifier()}, Keys: []feed.FeedKey{
		{From: now.Add(-time.Hour).Truncate(time.Second), Until: now.Add(time.Hour).Truncate(time.Second), Verifier: next.Verifier()},
	}}
	banning, err := set.Sign(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.KeepFeedKeys(t.Context(), 2, banning); err != nil {
		t.Fatal(err)
	}
	w := forksOf(config.OcspdFeed{Root: root.Verifier(), OnFork: config.ForkStopGood}, store, trusted, slog.New(slog.DiscardHandler))
	if w.check(t.Context()); len(w.Forks()) != 0 || w.Doubt() != "" {
		t.Errorf("after the ban: %q, %q", w.Forks(), w.Doubt())
	}
}
