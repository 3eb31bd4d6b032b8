package feed_test

import (
	"bytes"
	"compress/gzip"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

func gzipped(tb testing.TB, b []byte) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// testSnapshot is the manifest of one chunk of few rows, and the chunk.
func testSnapshot(tb testing.TB) (signed, chunk []byte) {
	tb.Helper()
	cut := feed.Chunker{Write: func(_ int, b []byte) error { chunk = b; return nil }}
	for _, row := range feedtest.EveryKind(1) {
		if row.Deleted {
			continue
		}
		row.Position = 0
		if err := cut.Add(row); err != nil {
			tb.Fatal(err)
		}
	}
	if err := cut.Close(); err != nil {
		tb.Fatal(err)
	}
	s := feed.Snapshot{Checkpoint: feedtest.Checkpoint(8), Chunks: cut.Chunks}
	s.Number, s.Segment = 1, feed.Hash{1}
	signed, err := s.Sign(feedtest.KeyOf(tb, "one"))
	if err != nil {
		tb.Fatal(err)
	}
	return signed, chunk
}

// goldenSegments are the segments in testdata.
func goldenSegments() []*feed.Segment {
	return []*feed.Segment{
		{Epoch: epoch, Number: 1, First: 1, Last: 8, Changes: feedtest.EveryKind(1)},
		{Epoch: epoch, Number: 2, First: 9, Last: 108, Changes: feedtest.Issued(rand.New(rand.NewPCG(1, 2)), 9, 100, 0.1)},
		{Epoch: epoch, Number: 3, First: 109, Last: 1_000_000, SnapshotRequired: true},
	}
}

// The files in testdata are the vectors of docs/feed.md: all are read, and what
// is read is what they were made from. Compressed bytes may differ between
// compressors, so they are not written anew to be compared.
func TestGoldenFiles(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	root := read(t, "root.vkey")
	if string(root) != feedtest.KeyOf(t, "root").Verifier()+"\n" {
		t.Errorf("root.vkey is %q", root)
	}
	keys, err := feed.OpenKeySet(read(t, "keys"), origin, feedtest.RootOf(t))
	if err != nil {
		t.Fatal(err)
	}
	var previous, previousText feed.Hash
	for i, want := range goldenSegments() {
		sealed, err := feed.ParseSealed(read(t, "segment-"+string(rune('1'+i))))
		if err != nil {
			t.Fatal(err)
		}
		c, got, err := keys.Open(sealed)
		if err != nil {
			t.Fatal(err)
		}
		want.Previous = previous
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("segment %d (-want +got)\n%s", want.Number, diff)
		}
		if c.Previous != previousText {
			t.Errorf("checkpoint %d does not name the one before", want.Number)
		}
		previous, previousText = c.Segment, c.Hash()
	}
	beat, err := keys.OpenCheckpoint(read(t, "checkpoint"))
	if err != nil || beat.Segment != previous || beat.Previous != previousText {
		t.Errorf("the heartbeat is %+v, %v", beat, err)
	}
	snapshot, err := keys.OpenSnapshot(read(t, "snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := snapshot.OpenChunk(0, read(t, "chunk-0"))
	if err != nil || len(rows) != 6 {
		t.Errorf("the chunk has %d rows, %v", len(rows), err)
	}
}

func writeGolden(t *testing.T) {
	keys := feedtest.KeySet(t, "one")
	set, err := keys.Sign(feedtest.KeyOf(t, "root"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, "root.vkey", []byte(feedtest.KeyOf(t, "root").Verifier()+"\n"))
	write(t, "keys", set)
	var c feed.Checkpoint
	var previous feed.Hash
	for i, s := range goldenSegments() {
		before := previous
		s.Previous = c.Segment
		c = feedtest.Checkpoint(s.Last)
		c.Previous = before
		sealed, err := feed.Seal(s, &c, feedtest.KeyOf(t, "one"))
		if err != nil {
			t.Fatal(err)
		}
		der, err := sealed.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		write(t, "segment-"+string(rune('1'+i)), der)
		previous = c.Hash()
	}
	c.Previous, c.AsOf = previous, c.AsOf.Add(60e9)
	beat, err := c.Sign(feedtest.KeyOf(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, "checkpoint", beat)
	snapshot, chunk := testSnapshot(t)
	write(t, "snapshot", snapshot)
	write(t, "chunk-0", chunk)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("testdata", name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}
