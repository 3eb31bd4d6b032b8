package pull_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"
)

// peered is an askRig whose site cannot reach the master, and has a peer that can.
func peered(t *testing.T) (r *askRig, atPeer *atomic.Int64) {
	t.Helper()
	r, atPeer = newAskRig(t), &atomic.Int64{}
	_, keys, err := r.site.FeedKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := open(t, dbtest.New(t, migrations.Site))
	if err := store.KeepFeedKeys(t.Context(), 1, keys); err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return r.began.Add(time.Duration(r.clock.Load()) * time.Second) }
	id, caller := identity(t), identity(t)
	toMaster := serveMaster(t, r.store, r.latest, id, func(http.Handler) http.Handler { return r.lookup })
	peer := pull.NewLookupProxy(pull.LookupProxyConfig{Store: store.Site, Origin: origin, Root: rootOf(t, r.master), Sources: []*feedhttp.Client{toMaster}, Log: quiet, Now: clock})
	relays := feedhttp.NewServer(feedhttp.ServerConfig{
		Store: store.DB, Latest: &feedhttp.Latest{}, Lookup: publish.NewLookupServer(publish.LookupServerConfig{Ask: peer.Relay, Rate: 2, Burst: 5, Log: quiet, Now: clock}), Log: quiet,
	})
	fromPeer := serve(t, store, &feedhttp.Latest{}, caller, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { atPeer.Add(1); relays.ServeHTTP(w, q) })
	})
	r.proxy = pull.NewLookupProxy(pull.LookupProxyConfig{
		Store: r.site.Site, Origin: origin, Root: rootOf(t, r.master), Log: quiet, Now: clock,
		Sources: []*feedhttp.Client{serveMaster(t, r.store, r.latest, caller, away), fromPeer},
	})
	return r, atPeer
}

// A site that cannot reach the master has a peer ask, whose word counts for nothing:
// the answer is the master's.
func TestAPeerAsksTheMaster(t *testing.T) {
	t.Parallel()
	r, atPeer := peered(t)
	if _, err := r.store.Master.Issue(t.Context(), 1, nth(1), time.Now().Add(time.Hour), act); err != nil {
		t.Fatal(err)
	}
	if a := r.answered(t, nth(1), 0); !a.Issued || atPeer.Load() == 0 || r.asked.Load() == 0 {
		t.Errorf("it says %+v; the peer was asked %d times, the master %d", a, atPeer.Load(), r.asked.Load())
	}
	if a := r.answered(t, nth(2), 0); a.Issued {
		t.Errorf("nothing was issued, it says %+v", a)
	}
	// A peer that lies is not believed.
	r.silent.Store(true)
	r.clock.Add(11)
	if code, a := r.ask(t, nth(3), 0); code != http.StatusServiceUnavailable {
		t.Errorf("status %d, %+v", code, a)
	}
}

// A flood at a peer, and two peers that have nobody but each other, bring the master
// little and each other less.
func TestQuestionsOfPeersAreBounded(t *testing.T) {
	t.Parallel()
	r, atPeer := peered(t)
	for n := range uint64(200) {
		r.ask(t, nth(n), 0)
	}
	if asked := r.asked.Load(); asked > 5 {
		t.Errorf("of 200 questions, %d at the peer, %d reached the master", atPeer.Load(), asked)
	}
	lonely := pull.NewLookupProxy(pull.LookupProxyConfig{
		Store: r.site.Site, Origin: origin, Root: rootOf(t, r.master), Log: quiet,
		Sources: []*feedhttp.Client{serve(t, r.store, r.latest, identity(t), func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a peer was asked for a peer") })
		})},
	})
	if _, err := lonely.Relay(t.Context(), [32]byte{1}, nth(901)); err == nil {
		t.Error("who has no master answered a peer")
	}
}
