package pull_test

import (
	"net"
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/replicatest"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"
)

// The feed is one of the ways of sync, and passes what all of them must.
func TestTheFeedConforms(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	id, line := identity(t), replicatest.NewLine(t, l.Addr().String())
	askedAt(t, l, m.store, m.latest, id, s.id, nil, true)
	client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://" + line.Address(), Pin: id.Pin, Master: true, Identity: s.id, Stall: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	replicatest.Exercise(t, replicatest.Pair{MasterDSN: m.dsn, SiteDSN: s.dsn, Line: line, Source: &byFeed{t: t, m: m, s: s, client: client}})
}

// byFeed is a site that has its rows by the feed.
type byFeed struct {
	replicatest.Log
	t      *testing.T
	m      *master
	s      *site
	client *feedhttp.Client
	puller *pull.Puller
	stop   func()
}

// Start follows with an hour between two regular counts, and with long polls: what is found
// sooner is found because somebody wrote.
func (b *byFeed) Start() {
	b.puller, b.stop = b.s.pulls(b.t, b.m, func(c *pull.Config) {
		c.Recount, c.Wait, c.WatchEvery, c.Log = time.Hour, 75*time.Second, 20*time.Millisecond, b.Logger()
	}, b.client)
}

func (b *byFeed) Stop()           { b.stop() }
func (b *byFeed) Check()          { b.puller.Check() }
func (b *byFeed) Trouble() string { return b.puller.State().Trouble }
func (b *byFeed) Seeds() int      { return b.Count("copy seeded from the feed") }

func (b *byFeed) Diverged() int {
	return b.Count("copy differs from its head") + b.Count("the copy differs from what was signed")
}

// Reseed has the copy as one that did not come by the feed.
func (b *byFeed) Reseed() {
	b.stop()
	dbtest.Exec(b.t, b.s.dsn, "delete from feed_anchor")
	b.Start()
}

// Again has the copy stand on the segment before, as after a step that was not persisted in
// this process's view.
func (b *byFeed) Again() {
	b.stop()
	dbtest.Exec(b.t, b.s.dsn, `update feed_anchor a set number = g.number, hash = g.hash, note_hash = g.note_hash
		from segment g where g.epoch = a.epoch and g.number = a.number - 1`)
	b.Start()
}
