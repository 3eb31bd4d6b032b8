package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawStatus(r *rapid.T) db.Status {
	seconds := rapid.Int64Range(31536000, 253402300799) // 1971 to 9999
	s := db.Status{NotAfter: time.Unix(seconds.Draw(r, "not_after"), 0).UTC(), Reason: db.ReasonNone, Changed: rapid.Uint64Range(0, max48).Draw(r, "changed")}
	if rapid.Bool().Draw(r, "revoked") {
		s.Revoked, s.RevokedAt = true, time.Unix(seconds.Draw(r, "revoked_at"), 0).UTC()
		s.Reason = rapid.SampledFrom([]db.Reason{-1, 1, 2, 3, 4, 5, 6, 9, 10}).Draw(r, "reason")
	}
	return s
}

func TestPackedRowHoldsAll(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		issuer := db.IssuerID(rapid.Int32Range(1, 1<<31-1).Draw(r, "issuer"))
		serial := db.Serial(rapid.SliceOfN(rapid.Byte(), 1, db.MaxSerialLen).Draw(r, "serial"))
		status := drawStatus(r)
		packed, err := appendRow(nil, issuer, serial, status)
		if err != nil {
			r.Fatal(err)
		}
		p := row(packed)
		if diff := cmp.Diff(status, p.status()); diff != "" || p.issuer() != issuer || string(p.serial()) != string(serial) {
			r.Fatalf("%d/%s: %s", p.issuer(), p.serial(), diff)
		}
		if size := row(append(packed, 0xff, 0xff)).size(); size != len(p) {
			r.Fatalf("size %d, want %d", size, len(p))
		}
		want := db.AppendCertificate(nil, issuer, serial, status)
		if got := p.canonical(nil); string(got) != string(want) {
			r.Fatalf("canonical %x, want %x", got, want)
		}
	})
}

func TestRowThatWouldNotSurvivePackingIsRefused(t *testing.T) {
	whole := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, s := range map[string]db.Status{
		"fraction of a second": {NotAfter: whole.Add(time.Microsecond), Reason: db.ReasonNone},
		"before 1970":          {NotAfter: whole.AddDate(-70, 0, 0), Reason: db.ReasonNone},
		"no end":               {Reason: db.ReasonNone},
		"fraction revoked":     {NotAfter: whole, Revoked: true, RevokedAt: whole.Add(time.Microsecond), Reason: 1},
		"change number":        {NotAfter: whole, Reason: db.ReasonNone, Changed: max48 + 1},
		"reason":               {NotAfter: whole, Revoked: true, RevokedAt: whole, Reason: 15},
	} {
		if _, err := appendRow(nil, 1, db.Serial{1}, s); err == nil {
			t.Errorf("%s: packed", name)
		}
	}
	if _, err := appendRow(nil, 1, make(db.Serial, 21), db.Status{NotAfter: whole}); err == nil {
		t.Error("serial of 21 octets: packed")
	}
}

// A map follows random changes of a table that is built, changed and cut anew.
func TestTableEqualsMap(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		model := map[string]string{}
		b := newBuilder(rapid.SampledFrom([]int{0, 10, 1_000_000}).Draw(r, "expected"))
		for range rapid.IntRange(0, 300).Draw(r, "rows") {
			p := drawRow(r)
			if _, known := model[string(p.key())]; !known {
				model[string(p.key())] = string(p)
				b.add(p)
			}
		}
		table := b.table()
		for range rapid.IntRange(0, 5).Draw(r, "rounds") {
			byKey := map[string]change{}
			for range rapid.IntRange(0, 40).Draw(r, "changes") {
				p := drawRow(r)
				c := change{key: p.key(), next: p}
				c.prev, _ = table.find(p.key())
				if rapid.Bool().Draw(r, "delete") {
					c.next = nil
				}
				byKey[string(p.key())] = c
			}
			var changes []change
			for key, c := range byKey {
				if c.next == nil {
					delete(model, key)
				} else {
					model[key] = string(c.next)
				}
				changes = append(changes, c)
			}
			table.apply(changes)
			if rapid.Bool().Draw(r, "recut") {
				table = table.recut()
			}
			got := map[string]string{}
			for p := range table.all() {
				got[string(p.key())] = string(p)
				if found, ok := table.find(p.key()); !ok || string(found) != string(p) {
					r.Fatalf("found %x, want %x", found, p)
				}
			}
			if diff := cmp.Diff(model, got); diff != "" || int(table.count.Load()) != len(model) {
				r.Fatalf("%d rows: %s", table.count.Load(), diff)
			}
		}
	})
}

func drawRow(r *rapid.T) row {
	serial := binary.BigEndian.AppendUint32(nil, rapid.Uint32Range(0, 200).Draw(r, "serial"))
	p, err := appendRow(nil, 1, serial[rapid.IntRange(0, 3).Draw(r, "from"):], drawStatus(r))
	if err != nil {
		r.Fatal(err)
	}
	return p
}

func TestCrowdedTableIsCutAnew(t *testing.T) {
	table := newBuilder(0).table()
	var changes []change
	for n := range minShards*crowdedRows + 1 {
		p := someRow(uint64(n), 0)
		changes = append(changes, change{key: p.key(), next: p})
	}
	table.apply(changes[1:])
	if table.crowded() {
		t.Fatal("crowded too early")
	}
	table.apply(changes[:1])
	if !table.crowded() || table.recut().crowded() || table.recut().count.Load() != table.count.Load() {
		t.Error("not cut anew")
	}
}

// Readers never see a row that was not written: run with -race.
func TestReadersBesideTheWriter(t *testing.T) {
	const rows, rounds = 500, 40
	b := newBuilder(rows)
	for n := range uint64(rows) {
		b.add(someRow(n, 0))
	}
	table := b.table()
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			var last [rows]uint64
			for n := uint64(0); ; n = (n + 1) % rows {
				select {
				case <-done:
					return
				default:
				}
				r, found := table.find(someRow(n, 0).key())
				if !found || r.status().Changed < last[n] {
					t.Errorf("row %d: found %t, went back", n, found)
					return
				}
				last[n] = r.status().Changed
			}
		})
	}
	for round := range uint64(rounds) {
		var changes []change
		for n := range uint64(rows) {
			next := someRow(n, round+1)
			prev, _ := table.find(next.key())
			changes = append(changes, change{key: next.key(), prev: prev, next: next})
		}
		table.apply(changes)
	}
	close(done)
	readers.Wait()
}

// someRow is row n with a serial of 16 octets, every tenth revoked.
func someRow(n, changed uint64) row {
	serial := make(db.Serial, 16)
	random := rand.New(rand.NewPCG(n, 1))
	binary.BigEndian.PutUint64(serial, random.Uint64()>>1|1<<62)
	binary.BigEndian.PutUint64(serial[8:], random.Uint64())
	s := db.Status{NotAfter: time.Unix(4070908800, 0), Reason: db.ReasonNone, Changed: changed}
	if n%10 == 0 {
		s.Revoked, s.RevokedAt, s.Reason = true, time.Unix(1767225600, 0), db.ReasonKeyCompromise
	}
	r, err := appendRow(nil, 1, serial, s)
	if err != nil {
		panic(fmt.Sprint("a row of the tests' own: ", err))
	}
	return r
}

// A database that is away for long is told of; a restart of it is not, unless nothing was
// loaded before.
func TestAwayIsToldOnceItLasts(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	x, err := Open(t.Context(), new(sitedb.DB), Config{Poll: time.Second, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("permission denied for table certificate")
	if x.note(t.Context(), broken); !strings.HasSuffix(x.Away(), broken.Error()) {
		t.Errorf("with nothing loaded: %q", x.Away())
	}
	x.note(t.Context(), nil)
	x.table.Store(someTable(1))
	x.note(t.Context(), broken)
	now = now.Add(lasting)
	if x.note(t.Context(), broken); x.Away() != "" {
		t.Errorf("after %s: %q", lasting, x.Away())
	}
	now = now.Add(time.Second)
	if got := x.Away(); got != "the database cannot be read since 2026-01-01T12:00:00Z: permission denied for table certificate" {
		t.Errorf("it says %q", got)
	}
	if x.note(t.Context(), nil); x.Away() != "" {
		t.Errorf("when it is back: %q", x.Away())
	}
}
