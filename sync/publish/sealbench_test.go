package publish_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/publish"
)

// The way from commit to a signed and stored checkpoint.
func BenchmarkCommitToCheckpoint(b *testing.B) {
	m := newMaster(b)
	m.seals(b, func(*publish.SealerConfig) {})
	m.await(b, m.position(b))
	var took []time.Duration
	for n := uint64(0); b.Loop(); n++ {
		b.StopTimer()
		serial := m.issue(b, n)
		b.StartTimer()
		began := time.Now()
		if _, _, err := m.store.Master.Revoke(b.Context(), 1, serial, db.ReasonSuperseded, time.Time{}, act); err != nil {
			b.Fatal(err)
		}
		m.await(b, m.latest.Newest().Position+1)
		m.await(b, m.position(b))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// One look for changes at an idle head: what each poll costs the database.
func BenchmarkPendingIdle(b *testing.B) {
	m := newMaster(b)
	for b.Loop() {
		if _, err := m.sealer.Publisher.Pending(b.Context(), 1); err != nil {
			b.Fatal(err)
		}
	}
}

// A full segment of 10,000 changes, from the database to the stored seal.
func BenchmarkSealTenThousand(b *testing.B) {
	m := newMaster(b)
	m.seals(b, func(c *publish.SealerConfig) { c.Wait = time.Millisecond })
	m.await(b, m.position(b))
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		dbtest.Exec(b, m.dsn, fmt.Sprintf("insert into certificate select 1, '\\x40' || int4send(%d) || int4send(g), '2099-01-01' from generate_series(1, 10000) g", n))
		position := m.position(b)
		b.StartTimer()
		m.await(b, position)
	}
}
