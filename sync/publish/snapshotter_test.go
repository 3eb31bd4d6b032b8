package publish_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

// snapshots runs a snapshotter until the test ends.
func (m *master) archives(tb testing.TB, change func(*publish.SnapshotterConfig)) {
	tb.Helper()
	cfg := publish.SnapshotterConfig{Store: m.sealer.Publisher, Key: feedtest.KeyOf(tb, "one"), Keys: m.keys, Poll: 5 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	change(&cfg)
	snapshotter := publish.NewSnapshotter(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := snapshotter.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		cancel()
		running.Wait()
		if trouble := snapshotter.Trouble(); trouble != "" {
			tb.Error(trouble)
		}
	})
}

// snapshot waits for a snapshot at or after a position and opens it.
func (m *master) snapshot(tb testing.TB, position int64) *feed.Snapshot {
	tb.Helper()
	for range 12_000 {
		if stored, err := m.sealer.NewestSnapshot(tb.Context(), m.keys.Epoch); err == nil && stored.Position >= position {
			s, err := m.keys.OpenSnapshot(stored.Note)
			if err != nil {
				tb.Fatal(err)
			}
			return s
		}
		time.Sleep(5 * time.Millisecond)
	}
	tb.Fatalf("no snapshot was made up to position %d", position)
	return nil
}

// rowsOf opens all chunks; counts and digests must be the manifest's.
func (m *master) rowsOf(tb testing.TB, s *feed.Snapshot) (n int) {
	tb.Helper()
	tallies := map[byte]db.Tally{}
	signed, err := s.Sign(feedtest.KeyOf(tb, "one")) // Ed25519: the very octets that are stored
	if err != nil {
		tb.Fatal(err)
	}
	if stored, err := m.sealer.NewestSnapshot(tb.Context(), s.Epoch); err == nil && stored.Position == s.Position {
		signed = stored.Note // by whichever key
	}
	for i := range s.Chunks {
		b, err := m.sealer.FeedChunk(tb.Context(), s.Epoch, s.Position, feedhttp.Tag(signed), i)
		if err != nil {
			tb.Fatal(err)
		}
		rows, err := s.OpenChunk(i, b)
		if err != nil {
			tb.Fatal(err)
		}
		for _, r := range rows {
			t := tallies[r.Table]
			t.Add(r.Content)
			tallies[r.Table] = t
		}
		n += len(rows)
	}
	head, err := s.Head()
	if err != nil {
		tb.Fatal(err)
	}
	for _, t := range db.FeedTables {
		if tallies[t.Code] != *t.Tally(&head) {
			tb.Errorf("%s: chunks have %+v, the manifest says %+v", t.Name, tallies[t.Code], *t.Tally(&head))
		}
	}
	return n
}

// Snapshots that are made while writers work are each of one moment, and name a
// segment that they can go on from.
func TestSnapshotsUnderLoadAreTrue(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = 5 * time.Millisecond })
	m.await(t, m.position(t))
	m.archives(t, func(c *publish.SnapshotterConfig) { c.Every = time.Nanosecond })
	for n := range uint64(60) {
		m.issue(t, n)
		if n%20 == 0 {
			s := m.snapshot(t, m.position(t))
			m.rowsOf(t, s)
			seal, err := m.sealer.FeedSegment(t.Context(), s.Epoch, s.Number)
			if err != nil || feed.Hash(seal.Hash) != s.Segment || feed.Hash(seal.NoteHash) != s.Previous || seal.Last > s.Position {
				t.Errorf("the snapshot of position %d names segment %d, which ends at %d (%v)", s.Position, s.Number, seal.Last, err)
			}
		}
	}
	if n := m.rowsOf(t, m.snapshot(t, m.position(t))); n != 61 {
		t.Errorf("the last snapshot has %d rows, want 61", n)
	}
	var snapshots, chunks int
	err := dbtest.Connect(t, m.dsn).QueryRow(t.Context(), `select (select count(*) from snapshot),
		(select count(distinct snapshot) from snapshot_chunk)`).Scan(&snapshots, &chunks)
	if err != nil || snapshots > 2 || chunks > 2 {
		t.Errorf("%d snapshots are kept, chunks of %d (%v)", snapshots, chunks, err)
	}
}

// A snapshot is made when there is none, after a segment that requires one, and not without need.
func TestSnapshotsAreMadeWhenNeeded(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for several rounds")
	}
	t.Parallel()
	m := newMaster(t)
	began := time.Now() // the snapshotter's clock stands: time alone is a need, too
	m.archives(t, func(c *publish.SnapshotterConfig) { c.Now = func() time.Time { return began } })
	first := m.snapshot(t, 0)
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	m.issue(t, 1)
	m.await(t, m.position(t))
	time.Sleep(100 * time.Millisecond)
	if again := m.snapshot(t, 0); again.Position != first.Position {
		t.Errorf("a snapshot of position %d was made without need", again.Position)
	}
	dbtest.Exec(t, m.dsn, "insert into certificate select 1, '\\x40' || int4send(g), '2099-01-01' from generate_series(1, 300000) g")
	m.await(t, m.position(t))
	s := m.snapshot(t, m.position(t))
	if n := m.rowsOf(t, s); n != 300_002 || len(s.Chunks) < 5 {
		t.Errorf("after a segment that requires one the snapshot has %d rows in %d chunks", n, len(s.Chunks))
	}
}

// From 1 M rows in the database to the stored, signed snapshot.
func BenchmarkMakeSnapshotMillion(b *testing.B) {
	m := newMaster(b)
	dbtest.Exec(b, m.dsn, `insert into certificate select 1, '\x40' || substring(sha256(int4send(g)) for 15), timestamptz '2027-01-01' + g % 7776000 * interval '1 s',
		case when g % 10 = 0 then timestamptz '2026-06-01' + g % 7776000 * interval '1 s' end, null from generate_series(1, 1000000) g`)
	for b.Loop() {
		dbtest.Exec(b, m.dsn, "delete from snapshot; delete from snapshot_chunk")
		ctx, cancel := context.WithCancel(b.Context())
		snapshotter := publish.NewSnapshotter(publish.SnapshotterConfig{Store: m.sealer.Publisher, Key: feedtest.KeyOf(b, "one"), Keys: m.keys, Log: slog.New(slog.DiscardHandler)})
		var running sync.WaitGroup
		running.Go(func() { _ = snapshotter.Run(ctx) })
		s := m.snapshot(b, m.position(b))
		b.ReportMetric(float64(s.Size())/1e6, "MB")
		cancel()
		running.Wait()
	}
}
