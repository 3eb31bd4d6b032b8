package feed_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSegmentComesBackAsItWas(t *testing.T) {
	for name, s := range map[string]*feed.Segment{
		"every kind":        {Epoch: epoch, Number: 1, First: 1, Last: 8, Changes: feedtest.EveryKind(1)},
		"compressed":        {Epoch: epoch, Number: 2, First: 9, Last: 1008, Previous: feed.Hash{1}, Changes: feedtest.Issued(rand.New(rand.NewPCG(1, 1)), 9, 1000, 0.1)},
		"snapshot required": {Epoch: epoch, Number: 3, First: 1009, Last: 1 << 40, Previous: feed.Hash{2}, SnapshotRequired: true},
	} {
		sealed := feedtest.Sealed(t, s, "one")
		der, err := sealed.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := feed.ParseSealed(der)
		if err != nil {
			t.Fatal(err)
		}
		c, got, err := feedtest.KeySet(t, "other", "one").Open(back)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		head, err := c.Head()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(feedtest.Head(s.Last), head); diff != "" {
			t.Errorf("%s: head (-want +got)\n%s", name, diff)
		}
	}
}

func TestSegmentPropertyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "changes")
		s := &feed.Segment{Epoch: 1, Number: 1, First: rapid.Int64Range(1, 1<<50).Draw(t, "first")}
		for i := range n {
			serial := db.SerialFromMagnitude(rapid.SliceOfN(rapid.Byte(), 1, 19).Draw(t, "serial"), false)
			issuer := db.IssuerID(rapid.Int32Range(1, 1<<31-1).Draw(t, "issuer"))
			c := db.Change{Position: s.First + int64(i), Table: 'c', Deleted: rapid.Bool().Draw(t, "gone")}
			if c.Deleted {
				c.Content = db.AppendCertificateKey(nil, issuer, serial)
			} else {
				status := db.Status{NotAfter: time.Unix(rapid.Int64Range(40_000_000, 9_224_318_015_999).Draw(t, "end"), 0), Reason: db.ReasonNone}
				if rapid.Bool().Draw(t, "revoked") {
					status.Revoked, status.RevokedAt = true, time.Unix(rapid.Int64Range(40_000_000, 9_224_318_015_999).Draw(t, "at"), 0)
					status.Reason = rapid.SampledFrom([]db.Reason{db.ReasonNone, 1, 2, 3, 4, 5, 6, 9, 10}).Draw(t, "reason")
				}
				c.Content = db.AppendCertificate(nil, issuer, serial, status)
			}
			s.Changes = append(s.Changes, c)
		}
		s.Last = s.First + int64(n) - 1
		body, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := feed.ParseSegment(body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Every single octet that is changed, and every cut, is noticed.
func TestTamperedOctetsAreRefused(t *testing.T) {
	keys := feedtest.KeySet(t, "one")
	sealed, err := feedtest.Sealed(t, &feed.Segment{Epoch: epoch, Number: 1, First: 1, Last: 8, Changes: feedtest.EveryKind(1)}, "one").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	openSealed := func(b []byte) error {
		s, err := feed.ParseSealed(b)
		if err == nil {
			_, _, err = keys.Open(s)
		}
		return err
	}
	snapshot, chunk := testSnapshot(t)
	openChunk := func(b []byte) error {
		s, err := keys.OpenSnapshot(snapshot)
		if err == nil {
			_, err = s.OpenChunk(0, b)
		}
		return err
	}
	openSnapshot := func(b []byte) error {
		_, err := keys.OpenSnapshot(b)
		return err
	}
	set, err := keys.Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	openSet := func(b []byte) error {
		_, err := feed.OpenKeySet(b, origin, feedtest.RootOf(t))
		return err
	}
	for name, c := range map[string]struct {
		data []byte
		open func([]byte) error
	}{
		"segment": {sealed, openSealed}, "manifest": {snapshot, openSnapshot}, "chunk": {chunk, openChunk}, "key set": {set, openSet},
	} {
		if err := c.open(c.data); err != nil {
			t.Errorf("%s untouched: %v", name, err)
		}
		for i := range c.data {
			for _, flip := range []byte{0x01, 0x20, 0x80} {
				forged := bytes.Clone(c.data)
				forged[i] ^= flip
				if c.open(forged) == nil {
					t.Errorf("%s: octet %d changed from %#x to %#x was not noticed", name, i, c.data[i], forged[i])
				}
			}
			if c.open(c.data[:i]) == nil {
				t.Errorf("%s: cut to %d octets was not noticed", name, i)
			}
		}
		if c.open(append(bytes.Clone(c.data), 0)) == nil {
			t.Errorf("%s: an octet more was not noticed", name)
		}
	}
}

func TestCheckpointIsJudgedByTheKeySet(t *testing.T) {
	sign := func(key string, change func(*feed.Checkpoint)) []byte {
		c := feedtest.Checkpoint(5)
		c.Number, c.Segment = 1, feed.Hash{1}
		change(&c)
		signed, err := c.Sign(feedtest.KeyOf(t, key))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	same := func(*feed.Checkpoint) {}
	for name, c := range map[string]struct {
		keys   func(*feed.KeySet)
		signed []byte
		want   error
	}{
		"good":            {func(*feed.KeySet) {}, sign("one", same), nil},
		"overlap":         {func(*feed.KeySet) {}, sign("two", same), nil},
		"stranger":        {func(*feed.KeySet) {}, sign("three", same), feed.ErrForged},
		"banned":          {func(k *feed.KeySet) { k.Keys, k.Banned = k.Keys[1:], []string{k.Keys[0].Verifier} }, sign("one", same), feed.ErrForged},
		"other origin":    {func(*feed.KeySet) {}, sign("one", func(c *feed.Checkpoint) { c.Origin = "other.example" }), feed.ErrForged},
		"newer set":       {func(*feed.KeySet) {}, sign("one", func(c *feed.Checkpoint) { c.KeySet = 2 }), feed.ErrNewerKeys},
		"older set":       {func(k *feed.KeySet) { k.Number = 7 }, sign("one", same), nil},
		"other epoch":     {func(k *feed.KeySet) { k.Epoch++ }, sign("one", same), feed.ErrEpoch},
		"key is over":     {func(k *feed.KeySet) { k.Keys[0].Until = feedtest.Noon.Truncate(time.Second) }, sign("one", same), feed.ErrForged},
		"key to come":     {func(k *feed.KeySet) { k.Keys[0].From = feedtest.Noon.Add(time.Hour) }, sign("one", same), feed.ErrForged},
		"its last second": {func(k *feed.KeySet) { k.Keys[0].Until = feedtest.Noon.Add(time.Second).Truncate(time.Second) }, sign("one", same), nil},
	} {
		keys := feedtest.KeySet(t, "one", "two")
		c.keys(keys)
		if _, err := keys.OpenCheckpoint(c.signed); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A note of one kind is not taken for another, though the same key signed it.
func TestNotesOfOneKindAreNoOther(t *testing.T) {
	keys := feedtest.KeySet(t, "one")
	snapshot, _ := testSnapshot(t)
	if _, err := keys.OpenCheckpoint(snapshot); err == nil {
		t.Error("a manifest was taken for a checkpoint")
	}
	c := feedtest.Checkpoint(5)
	signed, err := c.Sign(feedtest.KeyOf(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.OpenSnapshot(signed); err == nil {
		t.Error("a checkpoint was taken for a manifest")
	}
	for _, bad := range []string{"", "a b", "UPPER.example", "x.example/keys", "x.example/snapshot", "x/y/z", "x+y", "x\ny"} {
		if feed.CheckOrigin(bad) == nil {
			t.Errorf("origin %q was admitted", bad)
		}
	}
}

func TestSegmentsThatCannotBe(t *testing.T) {
	good := func() *feed.Segment {
		return &feed.Segment{Epoch: 1, Number: 1, First: 1, Last: 8, Changes: feedtest.EveryKind(1)}
	}
	for name, change := range map[string]func(*feed.Segment){
		"gap":                           func(s *feed.Segment) { s.Last++ },
		"double":                        func(s *feed.Segment) { s.Changes[3].Position = 3 },
		"no previous":                   func(s *feed.Segment) { s.Number = 2 },
		"unwanted one":                  func(s *feed.Segment) { s.Previous[0] = 1 },
		"empty":                         func(s *feed.Segment) { s.Last, s.Changes = 0, nil },
		"snapshot required and changes": func(s *feed.Segment) { s.SnapshotRequired = true },
		"unknown table":                 func(s *feed.Segment) { s.Changes[0].Table = 'z' },
		"row too long":                  func(s *feed.Segment) { s.Changes[0].Content = make([]byte, feed.MaxRow+1) },
		"too many":                      func(s *feed.Segment) { s.Last = feed.MaxEntries + 1 },
	} {
		s := good()
		change(s)
		if body, err := s.Marshal(); err == nil {
			t.Errorf("%s: written as %x", name, body)
		}
	}
	c := feedtest.Checkpoint(6)
	if _, err := feed.Seal(good(), &c, feedtest.KeyOf(t, "one")); err == nil || !strings.Contains(err.Error(), "position 6") {
		t.Errorf("sealed under a checkpoint of another position: %v", err)
	}
}

func TestSnapshotChunksHoldAllRows(t *testing.T) {
	rows := feedtest.Issued(rand.New(rand.NewPCG(3, 3)), 0, 100_000, 0.1)
	var files [][]byte
	cut := feed.Chunker{Write: func(_ int, b []byte) error { files = append(files, b); return nil }}
	for i := range rows {
		rows[i].Position = 0
		if err := cut.Add(rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := cut.Close(); err != nil {
		t.Fatal(err)
	}
	s := feed.Snapshot{Checkpoint: feedtest.Checkpoint(100_000), Chunks: cut.Chunks}
	signed, err := s.Sign(feedtest.KeyOf(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := feedtest.KeySet(t, "one").OpenSnapshot(signed)
	if err != nil {
		t.Fatal(err)
	}
	var got []db.Change
	for i, b := range files {
		part, err := opened.OpenChunk(i, b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part...)
	}
	if !slices.EqualFunc(rows, got, func(a, b db.Change) bool {
		return a.Table == b.Table && bytes.Equal(a.Content, b.Content) && b.Position == 0
	}) {
		t.Error("the rows came back changed")
	}
	if _, err := opened.OpenChunk(0, files[1]); err == nil {
		t.Error("one chunk was taken for another")
	}
}

func TestBombsAreNotUnpacked(t *testing.T) {
	bomb := gzipped(t, make([]byte, feed.MaxSegment+1))
	if len(bomb) > 100_000 {
		t.Fatal("that is no bomb")
	}
	if _, err := feed.ParseSegment(bomb); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a bomb was unpacked: %v", err)
	}
}

func TestFeedKeyFileIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "feed.key")
	made, err := feed.GenerateKey(path, origin)
	if err != nil {
		t.Fatal(err)
	}
	read, err := feed.LoadKey(path, origin)
	if err != nil || read.Verifier() != made.Verifier() {
		t.Errorf("read %v, %v", read, err)
	}
	if _, err := feed.GenerateKey(path, origin); err == nil {
		t.Error("a key was overwritten")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.LoadKey(path, origin); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("a key that the group can read was taken: %v", err)
	}
	if err := os.WriteFile(path, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.LoadKey(path, origin); err == nil {
		t.Error("text was taken for a key")
	}
}
