package publish_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

// The master lets in whom its roster names, notes who asked, and shuts out a site
// that is revoked.
func TestClientTrackerFollowsTheRoster(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for several rounds")
	}
	t.Parallel()
	dsn := dbtest.New(t, migrations.Master)
	staff, publisher := open(t, dsn), open(t, dbtest.As(dsn, "ocsp_publisher"))
	if err := staff.Master.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	who := db.Act{User: "tester", Why: "test"}
	id := newIdentity(t)
	if _, err := staff.Master.AddResponder(t.Context(), "site-a", "http://a.example/", nil, who); err != nil {
		t.Fatal(err)
	}
	access := &feedhttp.AccessList{}
	tracker := publish.NewClientTracker(publisher.Publisher, access, slog.New(slog.DiscardHandler))
	server := httptest.NewUnstartedServer(tracker.Watch(feedhttp.NewServer(feedhttp.ServerConfig{Store: publisher.DB, Latest: &feedhttp.Latest{}, Access: access, Log: slog.New(slog.DiscardHandler)})))
	master := newIdentity(t)
	server.TLS = master.ServerTLS(access)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tracker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	changed, err := staff.Master.SetFeedPin(t.Context(), "site-a", id.Pin, who)
	if err != nil || !changed {
		t.Fatalf("setting the pin: %t, %v", changed, err)
	}
	if changed, err = staff.Master.SetFeedPin(t.Context(), "site-a", id.Pin, who); err != nil || changed {
		t.Errorf("the same again: %t, %v", changed, err)
	}
	eventually(t, "the site is let in", func() bool { site, in := access.Site(id.Pin); return in && site == "site-a" })

	transport := &http.Transport{TLSClientConfig: id.ClientTLS(master.Pin), DisableKeepAlives: true, ForceAttemptHTTP2: true}
	ask := func() error {
		response, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Get(server.URL + "/feed/checkpoint?after=17")
		if err == nil {
			err = response.Body.Close()
		}
		return err
	}
	eventually(t, "it is noted who asked", func() bool {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		seen, err := staff.Master.FeedClients(t.Context())
		return err == nil && seen["site-a"].Position == 17 && seen["site-a"].Form == 0 && time.Since(seen["site-a"].SeenAt) < time.Hour
	})

	client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: server.URL, Pin: master.Pin, Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	eventually(t, "it is noted what a site's program reads", func() bool {
		if _, _, err := client.Checkpoint(t.Context(), 18, "", 0); err != nil && !errors.Is(err, db.ErrNotFound) {
			t.Fatal(err)
		}
		seen, err := staff.Master.FeedClients(t.Context())
		return err == nil && seen["site-a"].Form == feed.Form
	})
	if _, err := staff.Master.SuspendResponder(t.Context(), "site-a", who); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told that it is suspended", func() bool {
		_, err := client.Keys(t.Context())
		return errors.Is(err, feedhttp.ErrAccessDenied) && strings.Contains(err.Error(), "suspended")
	})
	if _, err := staff.Master.RestoreResponder(t.Context(), "site-a", who); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is let in again", func() bool {
		_, err := client.Keys(t.Context())
		return errors.Is(err, db.ErrNotFound) // there are none yet
	})

	if _, err := staff.Master.RevokeResponder(t.Context(), "site-a", db.ReasonKeyCompromise, who); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is shut out", func() bool { _, in := access.Site(id.Pin); return !in })
	if _, err := client.Keys(t.Context()); !errors.Is(err, feedhttp.ErrAccessDenied) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked site got %v", err)
	}
	if _, err := staff.Master.SetFeedPin(t.Context(), "site-a", newIdentity(t).Pin, who); err == nil {
		t.Error("a revoked site was let in again")
	}
	if _, err := staff.Master.AddResponder(t.Context(), "site-b", "http://b.example/", nil, who); err != nil {
		t.Fatal(err)
	}
	if _, err := staff.Master.SetFeedPin(t.Context(), "site-b", id.Pin, who); err == nil {
		t.Error("two sites have one key")
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
