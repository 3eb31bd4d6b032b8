package feed_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
)

func seeds(f *testing.F, names ...string) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// What is read as a segment is written as the same DER again: there is one form.
func FuzzParseSegment(f *testing.F) {
	for _, s := range goldenSegments() {
		if s.Number > 1 {
			s.Previous = feed.Hash{1}
		}
		body, err := s.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := feed.ParseSegment(body)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if body[0] == 0x30 && again[0] == 0x30 && !bytes.Equal(body, again) {
			t.Fatalf("%x was written as %x", body, again)
		}
		back, err := feed.ParseSegment(again)
		if err != nil || len(back.Changes) != len(s.Changes) {
			t.Fatalf("%x does not come back: %v", again, err)
		}
	})
}

func FuzzParseSealed(f *testing.F) {
	seeds(f, "segment-1", "segment-2", "segment-3")
	f.Fuzz(func(t *testing.T, der []byte) {
		s, err := feed.ParseSealed(der)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil || !bytes.Equal(der, again) {
			t.Fatalf("%x was written as %x, %v", der, again, err)
		}
	})
}

func FuzzParseCheckpoint(f *testing.F) {
	c := feedtest.Checkpoint(5)
	f.Add(c.Text())
	c.PurgeBefore = feedtest.Noon
	f.Add(c.Text())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := feed.ParseCheckpoint(text)
		if err == nil && c.Text() != text {
			t.Fatalf("%q was written as %q", text, c.Text())
		}
	})
}

func FuzzParseSnapshot(f *testing.F) {
	s := feed.Snapshot{Checkpoint: feedtest.Checkpoint(5), Chunks: []feed.Chunk{{Size: 1, Hash: feed.Hash{1}}, {Size: 2}}}
	f.Add(s.Text())
	f.Fuzz(func(t *testing.T, text string) {
		s, err := feed.ParseSnapshot(text)
		if err == nil && s.Text() != text {
			t.Fatalf("%q was written as %q", text, s.Text())
		}
	})
}

// Whatever is sent as a chunk or as notes is judged without a panic.
func FuzzOpen(f *testing.F) {
	seeds(f, "keys", "checkpoint", "snapshot", "chunk-0")
	keys := feedtest.KeySet(f, "one")
	root := feedtest.RootOf(f)
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = feed.OpenKeySet(b, origin, root)
		_, _ = keys.OpenCheckpoint(b)
		_, _ = keys.OpenSnapshot(b)
		s := feed.Snapshot{Chunks: []feed.Chunk{{Size: int64(len(b)), Hash: feed.HashOf(b)}}}
		_, _ = s.OpenChunk(0, b)
	})
}
