package publish_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
)

var act = db.Act{User: "tester", Why: "test"}

// master is a master's database with one issuer, and what seals it.
type master struct {
	dsn    string
	store  *dbtest.Database // the superuser's
	sealer *dbtest.Database // of a login with the publisher's rights
	keys   *feed.KeySet
	latest *feedhttp.Latest
}

func newMaster(tb testing.TB) *master {
	tb.Helper()
	dsn := dbtest.New(tb, migrations.Master)
	m := &master{dsn: dsn, store: open(tb, dsn), sealer: open(tb, dbtest.As(dsn, "ocsp_publisher")), latest: &feedhttp.Latest{}}
	now := time.Now()
	if err := m.store.Master.InitHead(tb.Context(), now); err != nil {
		tb.Fatal(err)
	}
	_, err := m.store.Master.AddIssuer(tb.Context(), db.Issuer{
		Key: [32]byte{1}, Name: "issuer", Certificate: []byte{0x30, 0x00},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	}, act)
	if err != nil {
		tb.Fatal(err)
	}
	head, err := m.store.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	m.keys = &feed.KeySet{Origin: origin, Number: 1, Epoch: head.Epoch, Keys: []feed.FeedKey{{
		From: now.Add(-time.Hour).Truncate(time.Second), Until: now.Add(time.Hour).Truncate(time.Second), Verifier: feedtest.KeyOf(tb, "one").Verifier(),
	}}}
	return m
}

func open(tb testing.TB, dsn string) *dbtest.Database {
	tb.Helper()
	store := dbtest.Open(tb, dsn)
	return store
}

// seals runs a sealer until the test ends or stop is called.
func (m *master) seals(tb testing.TB, change func(*publish.SealerConfig)) (stop func()) {
	tb.Helper()
	cfg := publish.SealerConfig{
		Store: m.sealer.Publisher, Key: feedtest.KeyOf(tb, "one"), Keys: m.keys, Latest: m.latest, Log: slog.New(slog.DiscardHandler),
	}
	change(&cfg)
	sealer, err := publish.NewSealer(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := sealer.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	tb.Cleanup(stop)
	return stop
}

func (m *master) issue(tb testing.TB, n uint64) db.Serial {
	tb.Helper()
	serial := binary.BigEndian.AppendUint64([]byte{0x40}, n)
	if _, err := m.store.Master.Issue(tb.Context(), 1, serial, time.Now().Add(24*time.Hour), act); err != nil {
		tb.Fatal(err)
	}
	return serial
}

// await waits for a checkpoint at or after a position.
func (m *master) await(tb testing.TB, position int64) db.FeedNote {
	tb.Helper()
	note := m.latest.Wait(tb.Context(), time.Minute, func(n db.FeedNote) bool { return n.Position >= position })
	if note.Position < position || note.Note == nil {
		tb.Fatalf("nothing was sealed up to position %d", position)
	}
	return note
}

func (m *master) position(tb testing.TB) int64 {
	tb.Helper()
	head, err := m.store.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return head.Position
}

// history opens all segments in their order and checks chain, density, and that
// the rows which they give have the counts and digests of each seal.
func (m *master) history(tb testing.TB) []*feed.Segment {
	tb.Helper()
	var all []*feed.Segment
	var before feed.Checkpoint
	rows, passed := map[string][]byte{}, false
	tallies := map[byte]*db.Tally{'c': {}, 'k': {}, 'i': {}, 'r': {}, 'p': {}}
	for n := int64(1); ; n++ {
		stored, err := m.sealer.FeedSegment(tb.Context(), m.keys.Epoch, n)
		if err != nil {
			return all
		}
		c, s, err := m.keys.Open(feed.Sealed{Note: stored.Note, Body: stored.Body})
		if err != nil {
			tb.Fatal(err)
		}
		if s.Previous != before.Segment || s.First != before.Position+1 || n > 1 && c.Previous != before.Hash() {
			tb.Fatalf("segment %d does not continue the one before", n)
		}
		for _, change := range s.Changes {
			key := string(change.Table) + string(keyOf(tb, change))
			if old, there := rows[key]; there {
				tallies[change.Table].Remove(old)
				delete(rows, key)
			}
			if !change.Deleted {
				rows[key] = change.Content
				tallies[change.Table].Add(change.Content)
			}
		}
		passed = passed || s.SnapshotRequired // what it passed over is not in rows
		for _, table := range db.FeedTables {
			at := slices.IndexFunc(c.Tallies, func(t feed.TableTally) bool { return t.Table == table.Name })
			if !passed && c.Tallies[at].Tally != *tallies[table.Code] {
				tb.Fatalf("segment %d: %s is %+v by its changes, the seal says %+v", n, table.Name, *tallies[table.Code], c.Tallies[at].Tally)
			}
		}
		before = *c
		all = append(all, s)
	}
}

func keyOf(tb testing.TB, c db.Change) []byte {
	tb.Helper()
	switch c.Table {
	case 'c':
		return c.Content[:6+binary.BigEndian.Uint16(c.Content[4:])]
	case 'i':
		return c.Content[:4]
	case 'k':
		return c.Content // all of it
	}
	return c.Content[:32]
}

func TestSealsRevocationsAtOnceAndOthersWithinTheWait(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	const long = 10 * time.Minute // longer than any machine needs for what follows
	stop := m.seals(t, func(c *publish.SealerConfig) { c.Wait = long })
	before := m.await(t, m.position(t))
	serial := m.issue(t, 1)
	time.Sleep(200 * time.Millisecond)
	if now := m.latest.Newest(); now.Position != before.Position {
		t.Errorf("an issued certificate was sealed at once, at position %d", now.Position)
	}
	if _, _, err := m.store.Master.Revoke(t.Context(), 1, serial, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
		t.Fatal(err)
	}
	m.await(t, m.position(t)) // else it waits for ten minutes
	stop()
	asOf, _, err := m.store.Publisher.Heartbeat(t.Context(), -1)
	if err != nil {
		t.Fatal(err)
	}
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Second })
	m.latest.Wait(t.Context(), time.Minute, func(n db.FeedNote) bool { return !n.AsOf.Before(asOf) }) // what it signs at its start
	began := time.Now()
	m.issue(t, 2)
	m.await(t, m.position(t))
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("an issued certificate was sealed after %v, want about 1 s", took)
	}
	m.history(t)
}

// Writers race; whatever they do, the segments are dense and give the rows that
// each seal counts.
func TestSegmentsOfRacingWritersAreDenseAndTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("is a long load")
	}
	t.Parallel()
	m := newMaster(t)
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = 10 * time.Millisecond; c.Poll = time.Millisecond })
	var writers sync.WaitGroup
	for w := range 4 {
		conn := dbtest.Connect(t, m.dsn)
		writers.Go(func() {
			for i := range 60 {
				serial := []byte{0x41, byte(i % 20)}
				for _, sql := range []string{
					"insert into certificate values (1, $1, '2099-01-01') on conflict (issuer_id, serial) do update set not_after = certificate.not_after + interval '1 s'",
					[]string{
						"update certificate set revoked_at = '2026-01-01', reason = 6 where serial = $1 and revoked_at is null",
						"update certificate set revoked_at = null, reason = null where serial = $1",
						"delete from certificate where serial = $1",
						"insert into certificate select 1, $1 || int4send(g), '2099-01-01' from generate_series(1, 50) g on conflict do nothing",
					}[(i+w)%4],
				} {
					if _, err := conn.Exec(t.Context(), sql, serial); err != nil {
						t.Errorf("%s: %v", sql, err)
						return
					}
				}
			}
		})
	}
	writers.Wait()
	m.await(t, m.position(t))
	segments := m.history(t)
	if n := len(segments); n < 5 || segments[n-1].Last != m.position(t) {
		t.Errorf("%d segments up to %d, the head is at %d", n, segments[n-1].Last, m.position(t))
	}
}

// One transaction that takes the head in pieces is still one block.
func TestTransactionInPiecesIsSealedWhole(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	conn := dbtest.Connect(t, m.dsn)
	for _, sql := range []string{
		"begin", "insert into certificate values (1, '\\x01', '2099-01-01')", "set constraints all immediate",
		"insert into certificate values (1, '\\x02', '2099-01-01')", "commit",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.await(t, m.position(t))
	m.history(t)
}

func TestIdleHeadIsConfirmedWithItsTime(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	m.seals(t, func(c *publish.SealerConfig) { c.Confirm = 50 * time.Millisecond })
	first := m.await(t, m.position(t))
	if _, _, err := m.store.Publisher.Heartbeat(t.Context(), -1); err != nil {
		t.Fatal(err)
	}
	second := m.latest.Wait(t.Context(), time.Minute, func(n db.FeedNote) bool { return n.AsOf.After(first.AsOf) })
	if second.Position != first.Position || !second.AsOf.After(first.AsOf) {
		t.Fatalf("confirmed %+v after %+v", second, first)
	}
	seal, err := m.sealer.FeedSegment(t.Context(), m.keys.Epoch, second.Number)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.keys.OpenCheckpoint(second.Note)
	if err != nil || c.Previous != feed.Hash(seal.NoteHash) || c.Segment != feed.Hash(seal.Hash) {
		t.Errorf("the confirmation is %+v, %v", c, err)
	}
	// No new time, no new checkpoint.
	time.Sleep(200 * time.Millisecond)
	if now := m.latest.Newest(); !now.AsOf.Equal(second.AsOf) {
		t.Errorf("a head that stood still was confirmed at %v", now.AsOf)
	}
}

func TestTooManyChangesAreSealedAsALeap(t *testing.T) {
	if testing.Short() {
		t.Skip("writes more changes than a segment holds")
	}
	t.Parallel()
	m := newMaster(t)
	dbtest.Exec(t, m.dsn, fmt.Sprintf("insert into certificate select 1, '\\x40' || int4send(g), '2099-01-01' from generate_series(1, %d) g", feed.MaxEntries))
	m.seals(t, func(*publish.SealerConfig) {})
	m.await(t, m.position(t))
	m.issue(t, 1)
	m.await(t, m.position(t))
	segments := m.history(t)
	if len(segments) != 2 || !segments[0].SnapshotRequired || segments[1].SnapshotRequired {
		t.Errorf("%d segments, want one that requires a snapshot and one with a change", len(segments))
	}
}

// A sealer that is started anew goes on where the last one ended; two at once do
// not sign two histories.
func TestSealersContinueAndNeverFork(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	for range 3 {
		stop := m.seals(t, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
		m.issue(t, uint64(m.position(t)))
		m.await(t, m.position(t))
		stop()
	}
	for range 2 {
		m.seals(t, func(c *publish.SealerConfig) { c.Wait, c.Poll = time.Millisecond, time.Millisecond })
	}
	for range 50 {
		m.issue(t, uint64(m.position(t)))
	}
	m.await(t, m.position(t))
	m.history(t)
}

func TestSealerRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	_, err := publish.NewSealer(publish.SealerConfig{Store: m.sealer.Publisher, Key: feedtest.KeyOf(t, "two"), Keys: m.keys, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "does not name the feed key") {
		t.Errorf("a key that is not in the set was taken: %v", err)
	}
	m.keys.Epoch++
	sealer, err := publish.NewSealer(publish.SealerConfig{Store: m.sealer.Publisher, Key: feedtest.KeyOf(t, "one"), Keys: m.keys, Latest: m.latest, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := sealer.Run(ctx); err != nil {
		t.Error(err)
	}
	if trouble := sealer.Trouble(); !strings.Contains(trouble, "another epoch") || m.latest.Newest().Note != nil {
		t.Errorf("another epoch was sealed: %q", trouble)
	}
	for _, sql := range []string{
		"insert into segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body) values (1, 2, 1, 1, sha256(''), '', sha256(''), false, '')",
		"insert into segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body) values (1, 1, 2, 2, sha256(''), '', sha256(''), false, '')",
	} {
		if _, err := dbtest.Connect(t, m.dsn).Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "does not continue") {
			t.Errorf("a gap was stored: %v", err)
		}
	}
	if _, err := dbtest.Connect(t, dbtest.As(m.dsn, "ocsp_publisher")).Exec(t.Context(), "update segment set body = ''"); err == nil {
		t.Error("the publisher may rewrite segments")
	}
}

// Many changes wait a tenth as long as few: a revocation takes along what waits.
func TestManyChangesWaitLess(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	var ahead atomic.Int64
	m.seals(t, func(c *publish.SealerConfig) {
		c.Wait = 5 * time.Hour
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	before := m.await(t, m.position(t))
	conn := dbtest.Connect(t, m.dsn)
	issue := func(first, n int) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "insert into certificate select 1, '\\x42'::bytea || int4send(g), '2099-01-01' from generate_series($1::int, $2) g", first, first+n-1); err != nil {
			t.Fatal(err)
		}
	}
	issue(1, 10)
	time.Sleep(200 * time.Millisecond) // it looks, and begins to wait
	ahead.Store(int64(2 * time.Hour))
	time.Sleep(200 * time.Millisecond)
	if now := m.latest.Newest(); now.Position != before.Position {
		t.Errorf("few changes were sealed after two of five hours, at position %d", now.Position)
	}
	issue(11, 300)
	ahead.Store(int64(4 * time.Hour)) // also where the first look was late
	m.await(t, m.position(t))
	m.history(t)
}
