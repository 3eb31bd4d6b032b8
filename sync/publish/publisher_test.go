package publish_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"
)

// Whoever has the publisher's login, but not its key, took the newest segment away: a
// sealer that believed the database signed another one of its number.
func TestPublishersLoginMakesNobodySignTwice(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	state := filepath.Join(t.TempDir(), "state")
	seals := func() (stop func()) {
		return m.seals(t, func(c *publish.SealerConfig) { c.Wait, c.State = time.Millisecond, state })
	}
	stop := seals()
	m.issue(t, 1)
	before := m.await(t, m.position(t))
	stop()
	thief := dbtest.Connect(t, dbtest.As(m.dsn, "ocsp_publisher"))
	hash := strings.Repeat("0", 64)
	for _, sql := range []string{
		"delete from segment", "delete from feed_checkpoint", "update feed_checkpoint set position = 1", "delete from snapshot", "delete from snapshot_chunk",
		"insert into feed_keys values (9223372036854775807, 'garbage')", "update segment set body = ''", "truncate segment",
		"insert into segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body) select epoch, number + 1, last + 1, last + 1, hash, note, note_hash, snapshot_required, body from segment",
		// Beyond the head, or of another history.
		"select segment_append(epoch, number + 1, last + 1, 1::bigint << 62, sha256(''), 'garbage', sha256(''), true, '') from segment",
		"select segment_append(epoch + 1, 1, 1, 1, sha256(''), 'garbage', sha256(''), true, '') from segment",
		"select segment_append(epoch, number, first, last, sha256(''), 'garbage', sha256(''), true, '') from segment",
		"select segment_append(epoch, number + 2, last + 1, last + 1, '\\x" + hash + "', 'garbage', sha256(''), true, '') from segment",
		"select checkpoint_put(epoch, number, 1::bigint << 62, now(), 'garbage') from segment",
		"select checkpoint_put(epoch, number, last, 'infinity', 'garbage') from segment",
		"select snapshot_begin(epoch, 1::bigint << 62) from segment",
		"select snapshot_end(1, 'garbage', 1)",
	} {
		if _, err := thief.Exec(t.Context(), sql); err == nil {
			t.Errorf("the publisher may run %q", sql)
		}
	}
	if _, err := thief.Exec(t.Context(), "select segment_trim('0 s')"); err != nil {
		t.Error(err)
	}

	// What no right prevents: the sealer finds a database that went back.
	dbtest.Exec(t, m.dsn, "create table kept as table segment; delete from segment")
	m.issue(t, 2)
	for range 2 { // while it runs, and after a restart
		sealer, stop := m.starts(t, state)
		awaitTrouble(t, sealer, "was not signed by this ocspsyncd")
		stop()
	}
	if now := m.latest.Newest(); now.Position != before.Position {
		t.Fatalf("position %d was signed on top of a history that is gone", now.Position)
	}
	dbtest.Exec(t, m.dsn, "alter table segment disable trigger all; insert into segment select * from kept; alter table segment enable trigger all")
	stop = seals()
	if after := m.await(t, m.position(t)); after.Number != before.Number+1 {
		t.Errorf("segment %d follows %d", after.Number, before.Number)
	}
	stop()
	m.history(t)
}

var quiet = slog.New(slog.DiscardHandler)

// keeping configures a sealer that keeps what it signed in a file.
func (m *master) keeping(t *testing.T, state string) publish.SealerConfig {
	t.Helper()
	return publish.SealerConfig{Store: m.sealer.Publisher, Key: feedtest.KeyOf(t, "one"), Keys: m.keys, Latest: m.latest, State: state, Wait: time.Millisecond, Log: quiet}
}

// starts runs a sealer whose trouble is of interest.
func (m *master) starts(t *testing.T, state string) (*publish.Sealer, func()) {
	t.Helper()
	sealer, err := publish.NewSealer(m.keeping(t, state))
	if err != nil {
		t.Fatal(err)
	}
	return sealer, running(t, sealer)
}

// running runs a sealer until the test ends or stop is called.
func running(t *testing.T, sealer *publish.Sealer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := sealer.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(stop)
	return stop
}

// awaitTrouble waits until a sealer says so.
func awaitTrouble(t *testing.T, s *publish.Sealer, text string) {
	t.Helper()
	for tries := 0; !strings.Contains(s.Trouble(), text); tries++ {
		if tries == 3000 {
			t.Fatalf("the sealer says %q, want %q", s.Trouble(), text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Whoever stole the key and the publisher's login puts a segment of his own after the
// newest one. The master signs nothing on top of it until the root bans the key: then it
// goes on, with no new epoch, and no number is signed twice.
func TestThiefsSegmentAtTheMasterEndsWithTheBan(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	state := filepath.Join(t.TempDir(), "state")
	_, stop := m.starts(t, state)
	before := m.await(t, m.position(t))
	stop()
	m.issue(t, 1)
	m.issue(t, 2)
	last, err := m.sealer.FeedSegment(t.Context(), m.keys.Epoch, before.Number)
	if err != nil {
		t.Fatal(err)
	}
	head, err := m.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head.Position-- // as far as the head is, nothing is in his way
	content := db.AppendCertificate(nil, 1, db.Serial{0x66}, db.Status{NotAfter: feedtest.Noon.Truncate(time.Second), Reason: db.ReasonNone})
	his := &feed.Segment{
		Epoch: head.Epoch, Number: last.Number + 1, First: last.Last + 1, Last: head.Position, Previous: feed.Hash(last.Hash),
		Changes: []db.Change{{Position: head.Position, Table: db.CertificateTable, Content: content}},
	}
	c := feed.NewCheckpoint(origin, head, time.Time{})
	c.KeySet, c.Previous = 1, feed.Hash{1} // he does not even continue the master's
	sealed, err := feed.Seal(his, &c, feedtest.KeyOf(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	noteHash := c.Hash()
	_, err = dbtest.Connect(t, dbtest.As(m.dsn, "ocsp_publisher")).Exec(t.Context(), "select segment_append($1, $2, $3, $4, $5, $6, $7, false, $8)",
		c.Epoch, c.Number, his.First, his.Last, c.Segment[:], sealed.Note, noteHash[:], sealed.Body)
	if err != nil {
		t.Fatal(err)
	}
	sealer, stop := m.starts(t, state)
	awaitTrouble(t, sealer, "was not signed by this ocspsyncd")
	stop()
	if now := m.latest.Newest(); now.Number != before.Number {
		t.Fatalf("the master signed segment %d", now.Number)
	}
	m.keys = &feed.KeySet{Origin: origin, Number: 2, Epoch: head.Epoch, Keys: []feed.FeedKey{{
		From: m.keys.Keys[0].From, Until: m.keys.Keys[0].Until, Verifier: feedtest.KeyOf(t, "two").Verifier(),
	}}, Banned: []string{feedtest.KeyOf(t, "one").Verifier()}}
	m.seals(t, func(cfg *publish.SealerConfig) {
		cfg.Key, cfg.State, cfg.Wait = feedtest.KeyOf(t, "two"), state, time.Millisecond
	})
	if now := m.await(t, m.position(t)); now.Number != c.Number+1 {
		t.Errorf("after the ban segment %d was signed, want %d", now.Number, c.Number+1)
	}
}

// The file holds what was signed, whole, and an unreadable one is not passed over.
func TestSealerKeepsWhatItSigned(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	state := filepath.Join(t.TempDir(), "state")
	_, stop := m.starts(t, state)
	before := m.await(t, m.position(t))
	stop()
	kept, err := os.ReadFile(state)
	if err != nil || string(kept) != string(before.Note) {
		t.Fatalf("kept is %q, %v", kept, err)
	}
	if err := os.WriteFile(state, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{state, filepath.Join(state, "no", "folder")} {
		_, err = publish.NewSealer(m.keeping(t, path))
		if err == nil || !strings.Contains(err.Error(), "feed.state") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// An operator's login, or whoever has it, brings garbage as often as it can; and whoever
// has ocspsyncd's login too stores it under the highest number. A key set of the root
// comes into force all the same.
func TestGarbageKeySetBlocksNothing(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	operator := open(t, dbtest.As(m.dsn, "ocsp_operator"))
	for _, garbage := range []string{"one", "two", "three", "four"} {
		if changed, err := operator.Master.OfferKeySet(t.Context(), []byte(garbage), act); err != nil || !changed {
			t.Fatal(changed, err)
		}
	}
	if _, err := operator.Master.OfferKeySet(t.Context(), []byte("five"), act); err == nil || !strings.Contains(err.Error(), "wait for a decision") {
		t.Errorf("a fifth one may wait: %v", err)
	}
	if _, err := operator.Master.OfferKeySet(t.Context(), make([]byte, 1<<20), act); err == nil {
		t.Error("a key set of 1 MiB was taken")
	}
	publisher := dbtest.Connect(t, dbtest.As(m.dsn, "ocsp_publisher"))
	if _, err := publisher.Exec(t.Context(), "select feed_keys_decide(min(id), 9223372036854775807, null) from feed_keys_offered"); err != nil {
		t.Fatal(err)
	}
	m.seals(t, func(c *publish.SealerConfig) { c.Wait, c.Root = time.Millisecond, feedtest.RootOf(t) })
	ctx, cancel := context.WithCancel(context.Background())
	var judging sync.WaitGroup
	judging.Go(func() { _ = publish.RunOffers(ctx, m.sealer.Publisher, feedtest.RootOf(t), quiet) })
	t.Cleanup(func() { cancel(); judging.Wait() })
	m.issue(t, 1)
	m.await(t, m.position(t))
	ban := *m.keys
	ban.Number = 2
	signed, err := ban.Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ {
		if _, err = operator.Master.OfferKeySet(t.Context(), signed, act); err == nil {
			break
		}
		if tries == 3000 {
			t.Fatalf("the ban cannot be brought in: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for tries := 0; ; tries++ {
		if set, _, err := feed.StoredKeySet(t.Context(), m.sealer, origin, feedtest.RootOf(t)); err == nil && set.Number == 2 {
			break
		}
		if tries == 3000 {
			t.Fatal("the ban did not come into force")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if changed, err := operator.Master.OfferKeySet(t.Context(), signed, act); err != nil || changed {
		t.Errorf("what is in force was offered again: %t, %v", changed, err)
	}
}

// A key set never goes back: not by its number, not by its epoch.
func TestKeySetsFollowEachOther(t *testing.T) {
	t.Parallel()
	set := func(number, epoch int64) []byte {
		t.Helper()
		k := feedtest.KeySet(t, "one")
		k.Number, k.Epoch = number, epoch
		signed, err := k.Sign(feedtest.KeyOf(t, "root"))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	for name, want := range map[string]struct {
		notes  [][]byte
		number int64
	}{
		"the highest":              {[][]byte{set(1, 5), set(3, 5), set(2, 5)}, 3},
		"garbage counts not":       {[][]byte{[]byte("garbage"), set(1, 5), nil}, 1},
		"an epoch that is over":    {[][]byte{set(9, 4), set(2, 5), set(1, 5)}, 2},
		"a new epoch":              {[][]byte{set(1, 5), set(2, 6), set(3, 6)}, 3},
		"back and on in the right": {[][]byte{set(1, 5), set(2, 4), set(3, 5)}, 3},
	} {
		got, _, err := feed.NewestKeySet(want.notes, origin, feedtest.RootOf(t))
		if err != nil || got.Number != want.number {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, _, err := feed.NewestKeySet([][]byte{[]byte("garbage")}, origin, feedtest.RootOf(t)); err == nil {
		t.Error("garbage is a key set")
	}
}
