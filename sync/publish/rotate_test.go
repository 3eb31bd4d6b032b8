package publish_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"
)

// publishes has the root sign the set and stores it, as staff do it.
func (m *master) publishes(t *testing.T, set *feed.KeySet) {
	t.Helper()
	signed, err := set.Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.store.KeepFeedKeys(t.Context(), set.Number, signed); err != nil {
		t.Fatal(err)
	}
}

// confirmed waits, with the master's heart beating, for a checkpoint under a set.
func (m *master) confirmed(t *testing.T, set *feed.KeySet) *feed.Checkpoint {
	t.Helper()
	var last error
	for range 6000 {
		if _, _, err := m.store.Publisher.Heartbeat(t.Context(), -1); err != nil {
			t.Fatal(err)
		}
		c, err := set.OpenCheckpoint(m.latest.Newest().Note)
		if err == nil && c.KeySet == set.Number {
			return c
		}
		last = err
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no checkpoint under key set %d: %v", set.Number, last)
	return nil
}

func keyFor(t *testing.T, word string) feed.FeedKey {
	t.Helper()
	now := time.Now()
	return feed.FeedKey{From: now.Add(-time.Hour).Truncate(time.Second), Until: now.Add(time.Hour).Truncate(time.Second), Verifier: feedtest.KeyOf(t, word).Verifier()}
}

// A running sealer goes from one key to the next as the root says, without a gap,
// and never back.
func TestRunningSealerTakesNewKeySets(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.publishes(t, m.keys)
	m.seals(t, func(c *publish.SealerConfig) {
		c.Next, c.Root, c.Wait = feedtest.KeyOf(t, "two"), feedtest.RootOf(t), time.Millisecond
	})
	m.issue(t, 1)
	m.await(t, m.position(t))
	only := func(word string) *feed.KeySet {
		set := *m.keys
		set.Number, set.Keys = 9, []feed.FeedKey{keyFor(t, word)}
		return &set
	}
	if _, err := only("one").OpenCheckpoint(m.latest.Newest().Note); err != nil {
		t.Errorf("before the rotation: %v", err)
	}

	second := *m.keys
	second.Number, second.Keys = 2, []feed.FeedKey{keyFor(t, "one"), keyFor(t, "two")}
	m.publishes(t, &second)
	m.confirmed(t, &second)
	if _, err := only("two").OpenCheckpoint(m.latest.Newest().Note); err != nil {
		t.Errorf("with both keys named, the next one signs: %v", err)
	}
	m.issue(t, 2)
	m.await(t, m.position(t))
	for n := int64(1); n <= m.latest.Newest().Number; n++ { // the whole chain opens under the set that names both
		stored, err := m.sealer.FeedSegment(t.Context(), second.Epoch, n)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := second.Open(feed.Sealed{Note: stored.Note, Body: stored.Body}); err != nil {
			t.Errorf("segment %d: %v", n, err)
		}
	}

	third := second
	third.Number, third.Keys, third.Banned = 3, []feed.FeedKey{keyFor(t, "one")}, []string{feedtest.KeyOf(t, "two").Verifier()}
	m.publishes(t, &third)
	m.confirmed(t, &third)
	if third.Bans(m.latest.Newest().Note) {
		t.Error("the banned key signs on")
	}
}

// Where the root's newest set names none of its keys, a sealer signs nothing, and
// says why.
func TestSealerWithoutANamedKeyStandsStill(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.publishes(t, m.keys)
	sealer, err := publish.NewSealer(publish.SealerConfig{
		Store: m.sealer.Publisher, Key: feedtest.KeyOf(t, "one"), Keys: m.keys, Latest: m.latest, Root: feedtest.RootOf(t), Wait: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = sealer.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	m.await(t, m.position(t))
	other := *m.keys
	other.Number, other.Keys = 2, []feed.FeedKey{keyFor(t, "two")}
	m.publishes(t, &other)
	for n := uint64(1); ; n++ {
		m.issue(t, n)
		if strings.Contains(sealer.Trouble(), "names none of the feed keys held here") {
			break
		}
		if n == 3000 {
			t.Fatalf("the sealer says %q", sealer.Trouble())
		}
		time.Sleep(10 * time.Millisecond)
	}
	at := m.latest.Newest()
	m.issue(t, 9999)
	time.Sleep(50 * time.Millisecond)
	if now := m.latest.Newest(); now.Position != at.Position || other.Bans(now.Note) {
		t.Errorf("it signed position %d", now.Position)
	}
}

// After a ban the newest snapshot is one that sites believe, though no row changed.
func TestSnapshotOfABannedKeyIsMadeAnew(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.publishes(t, m.keys)
	m.issue(t, 1)
	m.seals(t, func(c *publish.SealerConfig) { c.Next, c.Root = feedtest.KeyOf(t, "two"), feedtest.RootOf(t) })
	m.await(t, m.position(t))
	m.archives(t, func(c *publish.SnapshotterConfig) { c.Next, c.Root = feedtest.KeyOf(t, "two"), feedtest.RootOf(t) })
	before := m.snapshot(t, m.position(t))
	second := *m.keys
	second.Number, second.Keys, second.Banned = 2, []feed.FeedKey{keyFor(t, "two")}, []string{feedtest.KeyOf(t, "one").Verifier()}
	m.publishes(t, &second)
	var after *feed.Snapshot
	for range 6000 {
		stored, err := m.sealer.NewestSnapshot(t.Context(), second.Epoch)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			t.Fatal(err)
		}
		if after, err = second.OpenSnapshot(stored.Note); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if after == nil || after.Position != before.Position {
		t.Fatalf("the newest snapshot is %+v, want one of position %d by the other key", after, before.Position)
	}
	if got := m.rowsOf(t, after); got != 2 { // an issuer and a certificate
		t.Errorf("it has %d rows, want 2", got)
	}
}

func TestNoteOfNobodyKnownIsTold(t *testing.T) {
	t.Parallel()
	c := feedtest.Checkpoint(7)
	signed, err := c.Sign(feedtest.KeyOf(t, "two"))
	if err != nil {
		t.Fatal(err)
	}
	set := feedtest.KeySet(t, "one")
	_, err = set.OpenCheckpoint(signed)
	if !errors.Is(err, feed.ErrUnknownKey) || !errors.Is(err, feed.ErrForged) {
		t.Errorf("a note of an unknown key: %v", err)
	}
	set.Banned = []string{feedtest.KeyOf(t, "two").Verifier()}
	if !set.Bans(signed) {
		t.Error("a banned key's note is not known as one")
	}
	broken := slices.Clone(signed)
	broken[0] ^= 1
	if set.Bans(broken) {
		t.Error("what nobody signed counts as a banned key's")
	}
}
