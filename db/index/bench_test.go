package index

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

func someTable(rows int) *table {
	b := newBuilder(rows)
	for n := range uint64(rows) {
		b.add(someRow(n, n))
	}
	return b.table()
}

func BenchmarkLookup(b *testing.B) {
	for _, rows := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			x, err := Open(b.Context(), new(sitedb.DB), Config{})
			if err != nil {
				b.Fatal(err)
			}
			x.table.Store(someTable(rows))
			serials := make([]db.Serial, 4096)
			for n := range serials {
				serials[n] = someRow(uint64(n*(rows/len(serials))), 0).serial()
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, _, err := x.Lookup(b.Context(), 1, serials[n%len(serials)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}

// BenchmarkMemory measures the heap per certificate of a table with serials of
// 16 octets, a tenth of them revoked.
func BenchmarkMemory(b *testing.B) {
	const rows = 1_000_000
	for b.Loop() {
		before := heapInUse()
		t := someTable(rows)
		b.ReportMetric(float64(heapInUse()-before)/rows, "B/cert")
		runtime.KeepAlive(t)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkApply measures what one revocation and what 100,000 at once cost a
// table of a million.
func BenchmarkApply(b *testing.B) {
	t := someTable(1_000_000)
	for _, size := range []int{1, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			changes := make([]change, size)
			for n := range changes {
				next := someRow(uint64(n), 1)
				changes[n] = change{key: next.key(), next: next}
			}
			b.ReportAllocs()
			for b.Loop() {
				for n := range changes {
					changes[n].prev, _ = t.find(changes[n].key)
				}
				t.apply(changes)
			}
		})
	}
}

// BenchmarkLoad measures the load of a million certificates from PostgreSQL,
// digest and judgement included.
func BenchmarkLoad(b *testing.B) {
	dsn := dbtest.New(b, migrations.Site)
	dbtest.Exec(b, dsn, `
		insert into certificate (issuer_id, serial, not_after, revoked_at, reason)
		  select 1, '\x10'::bytea || substring(sha256(int4send(n)) for 15), '2099-01-01', case when n % 10 = 0 then '2026-01-01'::timestamptz end, case when n % 10 = 0 then 1 end
		  from generate_series(1, 1000000) n;
		insert into feed_head select 1, 1000, 1, clock_timestamp(), count(*), mod64(sum(row_digest(certificate_canonical(issuer_id, serial, not_after, revoked_at, reason)))),
		  0, 0, 0, 0, 0, 0, null, 0, '' from certificate`)
	store, err := sitedb.Open(b.Context(), pg.Config{DSN: dsn})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for b.Loop() {
		x, err := Open(b.Context(), store, Config{})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		err = x.step(ctx)
		cancel()
		if err != nil || x.Len() != 1_000_000 || x.Ready() != nil {
			b.Fatal(err, x.Len(), x.Ready())
		}
	}
}
