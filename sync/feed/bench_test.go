package feed_test

import (
	"math/rand/v2"
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/feed"
)

// A full segment of issued certificates takes at most 30 octets for each.
func TestOctetsPerIssuedCertificate(t *testing.T) {
	s := &feed.Segment{Epoch: epoch, Number: 1, First: 1, Last: 10_000, Changes: feedtest.Issued(rand.New(rand.NewPCG(1, 1)), 1, 10_000, 0)}
	sealed, err := feedtest.Sealed(t, s, "one").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	per := float64(len(sealed)) / 10_000
	t.Logf("%.1f octets per certificate issued", per)
	if per > 30 {
		t.Errorf("%.1f octets per certificate, want at most 30", per)
	}
}

func BenchmarkSegmentMarshal(b *testing.B) {
	s := &feed.Segment{Epoch: epoch, Number: 1, First: 1, Last: 10_000, Changes: feedtest.Issued(rand.New(rand.NewPCG(1, 1)), 1, 10_000, 0)}
	var n int
	for b.Loop() {
		body, err := s.Marshal()
		if err != nil {
			b.Fatal(err)
		}
		n = len(body)
	}
	b.ReportMetric(float64(n)/10_000, "octets/cert")
}

func BenchmarkSegmentOpen(b *testing.B) {
	sealed := feedtest.Sealed(b, &feed.Segment{Epoch: epoch, Number: 1, First: 1, Last: 10_000, Changes: feedtest.Issued(rand.New(rand.NewPCG(1, 1)), 1, 10_000, 0)}, "one")
	keys := feedtest.KeySet(b, "one")
	for b.Loop() {
		if _, _, err := keys.Open(sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckpointSign(b *testing.B) {
	c, key := feedtest.Checkpoint(5), feedtest.KeyOf(b, "one")
	var n int
	for b.Loop() {
		signed, err := c.Sign(key)
		if err != nil {
			b.Fatal(err)
		}
		n = len(signed)
	}
	b.ReportMetric(float64(n), "octets")
}

func BenchmarkCheckpointOpen(b *testing.B) {
	c := feedtest.Checkpoint(5)
	signed, err := c.Sign(feedtest.KeyOf(b, "one"))
	if err != nil {
		b.Fatal(err)
	}
	keys := feedtest.KeySet(b, "one")
	for b.Loop() {
		if _, err := keys.OpenCheckpoint(signed); err != nil {
			b.Fatal(err)
		}
	}
}

// One round is a snapshot of a million certificates, a tenth of them revoked.
func BenchmarkSnapshotMillion(b *testing.B) {
	rows := feedtest.Issued(rand.New(rand.NewPCG(1, 1)), 0, 1_000_000, 0.1)
	cut := func() (size int, files [][]byte, chunks []feed.Chunk) {
		c := feed.Chunker{Write: func(_ int, f []byte) error { files = append(files, f); size += len(f); return nil }}
		for _, row := range rows {
			if err := c.Add(row); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
		return size, files, c.Chunks
	}
	b.Run("write", func(b *testing.B) {
		var size int
		for b.Loop() {
			size, _, _ = cut()
		}
		b.ReportMetric(float64(size)/1e6, "MB")
	})
	b.Run("open", func(b *testing.B) {
		_, files, chunks := cut()
		s := feed.Snapshot{Chunks: chunks}
		for b.Loop() {
			var tally db.Tally
			for i, f := range files {
				rows, err := s.OpenChunk(i, f)
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range rows {
					tally.Add(r.Content)
				}
			}
			if tally.Count != 1_000_000 {
				b.Fatal(tally)
			}
		}
	})
}
