package pull_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
)

// rotating is a master whose sealer and snapshotter hold a second key, and take key
// sets while they run.
func rotating(tb testing.TB) (m *master, next *feed.Key) {
	tb.Helper()
	m, next = prepare(tb), feedKey(tb)
	m.rotates(tb, m.store, m.latest, next)
	return m, next
}

// rotates starts them on a database.
func (m *master) rotates(tb testing.TB, store *dbtest.Database, latest *feedhttp.Latest, next *feed.Key) (stop func()) {
	tb.Helper()
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		tb.Fatal(err)
	}
	sealer, err := publish.NewSealer(publish.SealerConfig{
		Store: store.Publisher, Key: m.key, Next: next, Keys: m.keys, Root: root, Latest: latest, Wait: 10 * time.Millisecond, Confirm: 100 * time.Millisecond, Log: quiet,
	})
	if err != nil {
		tb.Fatal(err)
	}
	archive := runs(tb, publish.NewSnapshotter(publish.SnapshotterConfig{Store: store.Publisher, Key: m.key, Next: next, Keys: m.keys, Root: root, Poll: 20 * time.Millisecond, Log: quiet}).Run)
	seal := runs(tb, sealer.Run)
	return func() { archive(); seal() }
}

// publishes has the root sign the next key set, and stores it at a master.
func (m *master) publishes(tb testing.TB, store *dbtest.Database, change func(*feed.KeySet)) *feed.KeySet {
	tb.Helper()
	set := &feed.KeySet{Origin: origin, Number: m.keys.Number + 1, Epoch: m.keys.Epoch, Keys: append([]feed.FeedKey(nil), m.keys.Keys...), Correct: m.keys.Correct}
	change(set)
	signed, err := set.Sign(m.root)
	if err != nil {
		tb.Fatal(err)
	}
	if err := store.KeepFeedKeys(tb.Context(), set.Number, signed); err != nil {
		tb.Fatal(err)
	}
	return set
}

func named(key *feed.Key) feed.FeedKey {
	now := time.Now()
	return feed.FeedKey{From: now.Add(-time.Hour).Truncate(time.Second), Until: now.Add(time.Hour).Truncate(time.Second), Verifier: key.Verifier()}
}

// beats waits until the site's newest checkpoint was signed under a key set.
func (s *site) beats(tb testing.TB, m *master, at *dbtest.Database, set *feed.KeySet) {
	tb.Helper()
	var last error
	for range 6000 {
		if _, _, err := at.Publisher.Heartbeat(tb.Context(), -1); err != nil {
			tb.Fatal(err)
		}
		n, err := s.store.FeedNote(tb.Context())
		if last = err; err == nil {
			c, err := set.OpenCheckpoint(n.Note)
			if last = err; err == nil && c.KeySet == set.Number {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Fatalf("the site has no checkpoint under key set %d: %v", set.Number, last)
}

// A rotation with overlap: the site goes on with each key, and is never seeded anew.
func TestRotationIsNoOutage(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	s, registry := newSite(t), prometheus.NewRegistry()
	s.pulls(t, m, func(c *pull.Config) { c.Metrics = pull.NewMetrics(registry) }, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	m.issue(t, 1)
	s.equals(t, m)
	both := m.publishes(t, m.store, func(k *feed.KeySet) { k.Keys = append(k.Keys, named(next)) })
	s.beats(t, m, m.store, both)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	s.equals(t, m)
	m.keys = both
	only := m.publishes(t, m.store, func(k *feed.KeySet) { k.Keys = []feed.FeedKey{named(next)} })
	s.beats(t, m, m.store, only)
	m.issue(t, 2)
	s.equals(t, m)
	if n := metric(t, registry, "ocspsyncd_pull_seeds_total", ""); n != 1 {
		t.Errorf("the copy was seeded %v times, want once", n)
	}
	if n := metric(t, registry, "ocspsyncd_pull_key_set", ""); n != 3 {
		t.Errorf("key set %v is in force here, want 3", n)
	}
	// Who was away meanwhile holds a set with the old key, whose segments nobody believes now.
	late := newSite(t)
	late.pulls(t, m, nil, serve(t, m.store, m.latest, late.id, nil))
	late.equals(t, m)
}

// A source that shows an older key set does not bring it back, and two sets of one
// number are kept as evidence.
func TestKeySetsNeverGoBack(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	s := newSite(t)
	_, stop := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	second := m.publishes(t, m.store, func(k *feed.KeySet) { k.Keys = append(k.Keys, named(next)) })
	s.equals(t, m)
	s.beats(t, m, m.store, second)
	stop()
	dbtest.Exec(t, m.dsn, "delete from feed_keys where number = 2")
	p, stop := s.pulls(t, m, func(c *pull.Config) { c.KeysEvery = 10 * time.Millisecond }, serve(t, m.store, m.latest, s.id, nil))
	m.issue(t, 1)
	s.equals(t, m)
	if number, _, err := s.store.FeedKeys(t.Context()); err != nil || number != 2 {
		t.Errorf("key set %d is in force here, %v", number, err)
	}
	if forks, err := s.store.Site.Forks(t.Context()); err != nil || len(forks) != 0 {
		t.Errorf("%d forks, %v", len(forks), err)
	}
	m.publishes(t, m.store, func(k *feed.KeySet) { k.Keys = []feed.FeedKey{named(next)} })
	awaitTrouble(t, p, pull.ErrFork)
	if forks, err := s.store.Site.Forks(t.Context()); err != nil || len(forks) != 1 {
		t.Errorf("%d forks are kept, want 1 (%v)", len(forks), err)
	}
	stop()
}

// forges has a thief's relay continue the feed with the stolen key: what it shows
// is signed, and says that a certificate was issued which never was.
func forges(t *testing.T, m *master, thief *site) {
	t.Helper()
	copied, err := thief.store.Site.FeedCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head := copied.Head
	head.Position, head.AsOf = head.Position+1, time.Now().Add(time.Minute).UTC().Truncate(time.Microsecond)
	content := db.AppendCertificate(nil, 1, serial(666), db.Status{NotAfter: time.Now().Add(time.Hour).Truncate(time.Second), Reason: db.ReasonNone})
	head.Certificates.Add(content)
	segment := &feed.Segment{
		Epoch: head.Epoch, Number: copied.Anchor.Number + 1, First: head.Position, Last: head.Position, Previous: feed.Hash(copied.Anchor.Hash),
		Changes: []db.Change{{Position: head.Position, Table: db.CertificateTable, Content: content}},
	}
	c := feed.NewCheckpoint(origin, head, time.Time{})
	c.KeySet, c.Previous = m.keys.Number, feed.Hash(copied.Anchor.NoteHash)
	sealed, err := feed.Seal(segment, &c, m.key)
	if err != nil {
		t.Fatal(err)
	}
	signed := db.FeedNote{Epoch: c.Epoch, Number: c.Number, Position: c.Position, AsOf: c.AsOf, Note: sealed.Note}
	_, err = thief.store.Site.Apply(t.Context(), sitedb.FeedStep{
		Changes: segment.Changes, Head: head, Note: signed, Segment: &db.Segment{
			Epoch: c.Epoch, Number: c.Number, First: segment.First, Last: segment.Last, Hash: c.Segment, Note: sealed.Note, NoteHash: c.Hash(), Body: sealed.Body,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	thief.latest.Publish(signed)
}

func (s *site) knows(t *testing.T, n int) bool {
	t.Helper()
	_, err := s.store.Certificate(t.Context(), 1, serial(n))
	return err == nil
}

// The runbook for a stolen feed key (docs/feed-keys.md): a thief's relay has led a
// site astray; the root bans the key, the master signs with the next one, and the
// site, which asks its other sources for key sets by itself, is true again.
func TestRunbookStolenFeedKey(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	thief, victim := newSite(t), newSite(t)
	m.issue(t, 1)
	m.sealed(t)
	_, stop := thief.pulls(t, m, nil, serve(t, m.store, m.latest, thief.id, nil))
	thief.equals(t, m)
	stop()
	forges(t, m, thief)
	registry := prometheus.NewRegistry()
	victim.pulls(t, m, func(c *pull.Config) {
		c.KeysEvery, c.Recount, c.Metrics = 50*time.Millisecond, time.Hour, pull.NewMetrics(registry)
	}, serve(t, thief.store, thief.latest, victim.id, nil), serve(t, m.store, m.latest, victim.id, nil))
	for tries := 0; !victim.knows(t, 666); tries++ {
		if tries == 6000 {
			t.Fatal("the forged certificate did not come: the test shows nothing")
		}
		time.Sleep(10 * time.Millisecond)
	}

	// What the runbook says: one key set that names the next key and bans the stolen one.
	clean := m.publishes(t, m.store, func(k *feed.KeySet) {
		k.Keys, k.Banned = []feed.FeedKey{named(next)}, []string{m.key.Verifier()}
	})
	victim.beats(t, m, m.store, clean)
	m.issue(t, 2)
	victim.equals(t, m)
	if victim.knows(t, 666) {
		t.Error("the forged certificate is still known")
	}
	if n := metric(t, registry, "ocspsyncd_pull_faults_total", string(pull.Forged)); n == 0 {
		t.Error("the thief's relay was not left as forged")
	}
	// What it relays now was signed anew, though the snapshot is of the position of old.
	late := newSite(t)
	late.pulls(t, m, nil, serve(t, victim.sync, victim.latest, late.id, nil))
	late.equals(t, m)
}

// The runbook for a master that was restored from a backup: the sites have more than
// it. They refuse its history, until what was lost is entered again and the root
// has signed a key set for a new epoch.
func TestRunbookMasterRestored(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, s := prepare(t), newSite(t)
	stop := m.rotates(t, m.store, m.latest, nil)
	for n := range 5 {
		m.issue(t, n)
	}
	m.sealed(t)
	_, leave := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	restored := backup(t, m.dsn)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	m.sealed(t)
	m.issue(t, 50)
	m.sealed(t)
	s.equals(t, m)
	s.standsOn(t, m.latest.Newest().Number) // else it knows them by a snapshot, which names an older segment
	stop()
	leave()

	// The restored master publishes, too early: whatever it does, sites stay.
	latest := &feedhttp.Latest{}
	m.dsn, m.store = restored, open(t, restored)
	m.rotates(t, m.store, latest, nil)
	p, _ := s.pulls(t, m, nil, serve(t, m.store, latest, s.id, nil))
	awaitTrouble(t, p, pull.ErrRollback)
	for n := range 3 {
		m.issue(t, 60+n)
	}
	awaitTrouble(t, p, pull.ErrFork)
	s.shows(t, 1, true)

	// A new epoch alone is refused while a revocation is missing; then it is taken.
	epoch := m.keys.Epoch + 1
	if _, err := m.store.Master.NewEpoch(t.Context(), epoch, act); err != nil {
		t.Fatal(err)
	}
	m.publishes(t, m.store, func(k *feed.KeySet) { k.Epoch = epoch })
	awaitTrouble(t, p, db.ErrRevocationsLost)
	s.shows(t, 1, true)
	known, err := s.store.Certificate(t.Context(), 1, serial(1)) // ocspctl fleet lost names it, and when
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.store.Master.Revoke(t.Context(), 1, serial(1), known.Reason, known.RevokedAt, act); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		if head, err := s.store.Head(t.Context()); err == nil && head.Epoch == epoch {
			break
		}
		if tries == 6000 {
			t.Fatalf("the site did not take the new epoch: %s", p.State().Trouble)
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.equals(t, m)
	s.shows(t, 1, true)
}

// standsOn waits until the site has a segment.
func (s *site) standsOn(t *testing.T, number int64) {
	t.Helper()
	for tries := 0; ; tries++ {
		copied, err := s.store.Site.FeedCopy(t.Context())
		if err == nil && copied.Anchor.Number >= number {
			return
		}
		if tries == 6000 {
			t.Fatalf("the site stands on segment %d, want %d (%v)", copied.Anchor.Number, number, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// backup copies a database as it is now; nobody may be connected meanwhile.
func backup(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:]
	server := dbtest.Server(t)
	for _, sql := range []string{
		"alter database %s allow_connections false",
		"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '%s'",
		"create database %[1]s_restored template %[1]s",
		"alter database %s allow_connections true",
	} {
		dbtest.Exec(t, server.DSN("postgres"), fmt.Sprintf(sql, name))
	}
	return server.DSN(name + "_restored")
}
