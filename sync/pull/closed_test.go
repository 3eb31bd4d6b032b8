package pull_test

import (
	"context"
	"net"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

// A site whose certificates say nothing of it (profile br, or a relay that has none) is
// suspended: a relay whose configuration still names its key lets it in no more, and
// again once it is restored. The relay knows it by its rows alone.
func TestARelayLetsInNoKeyThatTheMasterClosed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, relay, peer := newMaster(t), newSite(t), identity(t)
	relay.pulls(t, m, nil, serve(t, m.store, m.latest, relay.id, nil))
	act := db.Act{Why: "test", User: "test"}
	if _, err := m.store.Master.AddResponder(t.Context(), "site-b", "http://b", nil, act); err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Master.SetFeedPin(t.Context(), "site-b", peer.Pin, act); err != nil {
		t.Fatal(err)
	}
	relay.equals(t, m)

	access, other := &feedhttp.AccessList{}, identity(t)
	runs(t, publish.NewRelayClientTracker(relay.sync.DB, map[feedhttp.Pin]string{peer.Pin: "site-b", other.Pin: "site-c"}, access, quiet).Run)
	server := feedhttp.NewServer(feedhttp.ServerConfig{Store: relay.sync.DB, Latest: relay.latest, Access: access, Log: quiet}).HTTP()
	server.TLSConfig = relay.id.ServerTLS(access)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	asks := func(as *feedhttp.Identity) error {
		client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://" + l.Addr().String(), Pin: relay.id.Pin, Identity: as, Stall: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Keys(t.Context())
		return err
	}
	becomes := func(step string, let bool) {
		t.Helper()
		for err := asks(peer); (err == nil) != let; err = asks(peer) {
			select {
			case <-t.Context().Done():
				t.Fatalf("%s: let in %t, want %t (%v)", step, !let, let, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		if err := asks(other); err != nil {
			t.Errorf("%s: another peer gets %v", step, err)
		}
	}
	becomes("active", true)
	for _, do := range []struct {
		step string
		let  bool
		f    func() error
	}{
		{"suspended", false, func() error { _, err := m.store.Master.SuspendResponder(t.Context(), "site-b", act); return err }},
		{"restored", true, func() error { _, err := m.store.Master.RestoreResponder(t.Context(), "site-b", act); return err }},
		{"revoked", false, func() error {
			_, err := m.store.Master.RevokeResponder(t.Context(), "site-b", db.ReasonKeyCompromise, act)
			return err
		}},
	} {
		if err := do.f(); err != nil {
			t.Fatal(err)
		}
		becomes(do.step, do.let)
	}
	relay.equals(t, m)
	if closed, err := relay.sync.ClosedPins(context.WithoutCancel(t.Context())); err != nil || !closed[peer.Pin] || len(closed) != 1 {
		t.Errorf("closed at the relay: %v, %v", closed, err)
	}
}
