package index

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"sync/atomic"
)

const (
	// shardRows is how many rows a shard has on average after a load: a look-up halves 128 rows
	// 7 times, one change copies 128 x 40 octets = 5 kB (about 2 us).
	shardRows = 128
	// crowdedRows is the average above which a grown table is divided again: until then a
	// change copies 20 kB.
	crowdedRows = 4 * shardRows
	minShards   = 64
)

// table holds packed rows in many small shards, distributed by a hash of the key. One goroutine
// changes it; any number read without a lock. A shard is never changed, only replaced, so a
// reader sees a row in its state before or after the change.
type table struct {
	seed   maphash.Seed
	shift  int // hash >> shift is the shard's number
	shards []atomic.Pointer[shard]
	count  atomic.Int64
}

// shard is immutable: rows one after the other, sorted by key, and where each begins.
type shard struct {
	offsets []uint32
	rows    []byte
}

func (s *shard) row(i int) row {
	end := len(s.rows)
	if i+1 < len(s.offsets) {
		end = int(s.offsets[i+1])
	}
	return s.rows[s.offsets[i]:end:end]
}

// find returns the place of the first row whose key is not below key, and whether it has that
// key.
func (s *shard) find(key []byte) (int, bool) {
	low, high := 0, len(s.offsets)
	for low < high {
		mid := int(uint(low+high) >> 1)
		switch c := bytes.Compare(row(s.rows[s.offsets[mid]:]).key(), key); {
		case c == 0:
			return mid, true
		case c < 0:
			low = mid + 1
		default:
			high = mid
		}
	}
	return low, false
}

// number returns the shard of a key.
func (t *table) number(key []byte) int { return int(maphash.Bytes(t.seed, key) >> t.shift) }

// find returns the row of a key; the row stays valid after changes of the table.
func (t *table) find(key []byte) (row, bool) {
	s := t.shards[t.number(key)].Load()
	if i, found := s.find(key); found {
		return s.row(i), true
	}
	return nil, false
}

// all yields every row, in no order.
func (t *table) all() iter.Seq[row] {
	return func(yield func(row) bool) {
		for n := range t.shards {
			s := t.shards[n].Load()
			for i := range s.offsets {
				if !yield(s.row(i)) {
					return
				}
			}
		}
	}
}

// change is the new row of a key; next is nil when the row is deleted.
type change struct {
	key        []byte
	prev, next row
	shard      int
}

// apply replaces each shard with changes, once. The keys are unique, and prev is the present
// row in the table.
func (t *table) apply(changes []change) {
	for i := range changes {
		changes[i].shard = t.number(changes[i].key)
	}
	slices.SortFunc(changes, func(a, b change) int {
		if c := cmp.Compare(a.shard, b.shard); c != 0 {
			return c
		}
		return bytes.Compare(a.key, b.key)
	})
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].shard == changes[0].shard {
			n++
		}
		slot := &t.shards[changes[0].shard]
		old := slot.Load()
		merged := old.merge(changes[:n])
		slot.Store(merged)
		t.count.Add(int64(len(merged.offsets) - len(old.offsets)))
		changes = changes[n:]
	}
}

// merge returns a shard with the changes applied; they are sorted by key.
func (s *shard) merge(changes []change) *shard {
	size, count := len(s.rows), len(s.offsets)
	for _, c := range changes {
		size += len(c.next) - len(c.prev)
		if c.prev == nil {
			count++
		}
		if c.next == nil {
			count--
		}
	}
	merged := &shard{offsets: make([]uint32, 0, max(count, 0)), rows: make([]byte, 0, max(size, 0))}
	add := func(r row) {
		merged.offsets = append(merged.offsets, uint32(len(merged.rows)))
		merged.rows = append(merged.rows, r...)
	}
	at := 0
	for _, c := range changes {
		place, found := s.find(c.key)
		for ; at < place; at++ {
			add(s.row(at))
		}
		if found {
			at++
		}
		if c.next != nil {
			add(c.next)
		}
	}
	for ; at < len(s.offsets); at++ {
		add(s.row(at))
	}
	return merged
}

// crowded says whether the table has grown so much that a change copies too many octets.
func (t *table) crowded() bool { return t.count.Load() > int64(len(t.shards))*crowdedRows }

// recut returns a copy with a number of shards that fits its rows.
func (t *table) recut() *table {
	b := newBuilder(int(t.count.Load()))
	for r := range t.all() {
		b.add(r)
	}
	return b.table()
}

// builder collects the rows of a whole table, in any order.
type builder struct {
	t     *table
	heaps []heap
}

// heap is a shard before it is sorted.
type heap struct {
	offsets []uint32
	rows    []byte
}

// newBuilder returns a builder for about expect rows; more or fewer are allowed.
func newBuilder(expect int) *builder {
	n := minShards
	for n*shardRows < expect {
		n *= 2
	}
	return &builder{
		t:     &table{seed: maphash.MakeSeed(), shift: 64 - bits.TrailingZeros(uint(n)), shards: make([]atomic.Pointer[shard], n)},
		heaps: make([]heap, n),
	}
}

// add appends a copy of the row; its key must be new.
func (b *builder) add(r row) {
	h := &b.heaps[b.t.number(r.key())]
	h.offsets = append(h.offsets, uint32(len(h.rows)))
	h.rows = append(h.rows, r...)
}

// table sorts the rows and returns the table; the builder must not be used again.
func (b *builder) table() *table {
	for n := range b.heaps {
		h := b.heaps[n]
		b.heaps[n] = heap{}
		b.t.shards[n].Store(h.sorted())
		b.t.count.Add(int64(len(h.offsets)))
	}
	return b.t
}

func (h heap) sorted() *shard {
	slices.SortFunc(h.offsets, func(a, b uint32) int {
		return bytes.Compare(row(h.rows[a:]).key(), row(h.rows[b:]).key())
	})
	s := &shard{offsets: make([]uint32, len(h.offsets)), rows: make([]byte, 0, len(h.rows))}
	for i, at := range h.offsets {
		r := row(h.rows[at:])
		s.offsets[i] = uint32(len(s.rows))
		s.rows = append(s.rows, r[:r.size()]...)
	}
	return s
}
