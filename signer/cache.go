package signer

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	cacheShards = 64

	// maxCachedCertID keeps answers to absurd requests (a serial of 16,000 octets
	// is well-formed) out of the cache. A SHA-512 CertID with a serial of 20 octets
	// takes 171.
	maxCachedCertID = 256

	// entryOverhead is what an entry takes besides its key and body, in octets:
	// the struct (176), header values (280), map slot and ring slot (40), and
	// the allocator's rounding.
	entryOverhead = 512
)

// entry is one signed answer. Only memo, used and slot change.
type entry struct {
	hash                   uint64
	key, body              []byte
	class                  Class
	producedAt             time.Time
	thisUpdate, nextUpdate time.Time

	memo atomic.Value // Answer.Memo
	used atomic.Bool  // asked for since the clock hand last passed
	slot int          // place in the shard's ring; the shard's lock owns it
}

// fits says whether a cached signature may be used for the decision d, which has the same
// content: its thisUpdate is at most slack behind, its producedAt is not in the future (the
// clock was set back), and its nextUpdate is not past.
func (e *entry) fits(d decision, now time.Time) bool {
	return !e.thisUpdate.Before(d.thisUpdate.Add(-d.slack)) &&
		!e.producedAt.After(now.Add(time.Second)) && // 1 s: two requests may read the clock in either order
		e.sendable(d, now)
}

// stillFits is fits for the time when the token cannot sign. The content is the same and was
// looked up now, so an older signature of it is still true. At least half of the lifetime of a
// fresh answer must be left.
func (e *entry) stillFits(d decision, now time.Time) bool {
	return !e.producedAt.After(now.Add(time.Second)) && e.sendable(d, now) &&
		e.nextUpdate.Sub(now) >= d.nextUpdate.Sub(now)/2
}

// sendable says whether the times of an entry may still be sent.
func (e *entry) sendable(d decision, now time.Time) bool {
	return e.nextUpdate.After(now) && (!d.br || sendableBR(e.thisUpdate, e.nextUpdate, now))
}

// call is one signature in progress; the fields are set before done is closed.
type call struct {
	hash  uint64
	key   []byte
	done  chan struct{}
	entry *entry
	err   error
}

// cache holds signed answers by their content. Its size is bounded in octets. Each of its
// shards evicts by the clock algorithm: an entry asked for since the hand last passed is spared
// once, so a flood of serials asked once evicts itself, not the answers that many clients ask
// for.
type cache struct {
	seed   maphash.Seed // keys come from the internet: the hash must not be guessable
	limit  int64        // octets per shard
	shards [cacheShards]shard
	// epoch grows when the cache is emptied: a signature that was in progress then is not kept.
	epoch     atomic.Uint64
	evictions atomic.Uint64
}

// shard is one part of the cache; mu guards all of it.
type shard struct {
	mu      sync.RWMutex
	entries map[uint64]*entry
	calls   map[uint64]*call
	ring    []*entry
	hand    int
	size    int64
	_       [40]byte // keeps neighbours' locks off this cache line
}

func newCache(size int64) *cache {
	c := &cache{seed: maphash.MakeSeed(), limit: size / cacheShards}
	for i := range c.shards {
		c.shards[i].entries = make(map[uint64]*entry)
		c.shards[i].calls = make(map[uint64]*call)
	}
	return c
}

func (c *cache) hash(key []byte) uint64   { return maphash.Bytes(c.seed, key) }
func (c *cache) shard(hash uint64) *shard { return &c.shards[hash%cacheShards] }
func (e *entry) cost() int64              { return int64(len(e.key) + len(e.body) + entryOverhead) }
func (e *entry) is(key []byte) bool       { return e != nil && bytes.Equal(e.key, key) }
func (f *call) is(key []byte) bool        { return f != nil && bytes.Equal(f.key, key) }

// get returns the entry of the content key, or nil. The caller checks its age.
func (c *cache) get(hash uint64, key []byte) *entry {
	s := c.shard(hash)
	s.mu.RLock()
	e := s.entries[hash]
	s.mu.RUnlock()
	if !e.is(key) {
		return nil
	}
	if !e.used.Load() { // a store by every reader would move the cache line between processors
		e.used.Store(true)
	}
	return e
}

// begin returns the call that signs the content key, and whether the caller must start it, so
// that one content is never signed twice at once. If an entry that fits was made meanwhile,
// begin returns that entry instead.
func (c *cache) begin(hash uint64, key []byte, d decision, now time.Time) (f *call, leader bool, e *entry) {
	s := c.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[hash]; e.is(key) && e.fits(d, now) {
		return nil, false, e
	}
	old := s.calls[hash]
	if old.is(key) {
		return old, false, nil
	}
	f = &call{hash: hash, key: bytes.Clone(key), done: make(chan struct{})}
	if old == nil { // else: two contents with one hash; no other caller may join this call
		s.calls[hash] = f
	}
	return f, true, nil
}

// finish ends a call and wakes all who wait for it. Its entry, if any, is kept unless the cache
// was emptied since epoch.
func (c *cache) finish(f *call, epoch uint64) {
	s := c.shard(f.hash)
	s.mu.Lock()
	if s.calls[f.hash] == f {
		delete(s.calls, f.hash)
	}
	if f.entry != nil && epoch == c.epoch.Load() {
		s.put(f.entry, c.limit, &c.evictions)
	}
	s.mu.Unlock()
	close(f.done)
}

// put stores an entry in place of an older one of the same hash.
func (s *shard) put(e *entry, limit int64, evictions *atomic.Uint64) {
	if e.cost() > limit {
		return
	}
	if old := s.entries[e.hash]; old != nil {
		s.remove(old)
	}
	for s.size+e.cost() > limit {
		if s.hand >= len(s.ring) {
			s.hand = 0
		}
		if victim := s.ring[s.hand]; victim.used.Swap(false) {
			s.hand++
		} else {
			s.remove(victim)
			evictions.Add(1)
		}
	}
	e.slot = len(s.ring)
	s.ring = append(s.ring, e)
	s.entries[e.hash] = e
	s.size += e.cost()
}

// remove deletes an entry; the last entry of the ring moves into its slot.
func (s *shard) remove(e *entry) {
	last := len(s.ring) - 1
	s.ring[e.slot] = s.ring[last]
	s.ring[e.slot].slot = e.slot
	s.ring[last] = nil
	s.ring = s.ring[:last]
	delete(s.entries, e.hash)
	s.size -= e.cost()
}

// empty deletes all signatures. Calls in progress continue, but their results are not kept.
func (c *cache) empty() {
	c.epoch.Add(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.entries = make(map[uint64]*entry)
		s.ring, s.hand, s.size = nil, 0, 0
		s.mu.Unlock()
	}
}

// stats returns the number of entries and their size in octets.
func (c *cache) stats() (entries int, size int64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		entries += len(s.entries)
		size += s.size
		s.mu.RUnlock()
	}
	return entries, size
}

// appendContent appends the content key of an answer to buf: all that the answer says except
// its times. A different octet in it needs a different signature.
func appendContent(buf []byte, certID []byte, d decision, f copyStatus, p policy, id *Identity) []byte {
	buf = append(buf, byte(d.class), byte(d.reason))
	extended := byte(0)
	if d.extended {
		extended = 1
	}
	buf = append(buf, extended)
	buf = binary.BigEndian.AppendUint64(buf, uint64(d.revokedAt.Unix()))
	buf = binary.BigEndian.AppendUint64(buf, f.status.Changed)
	buf = binary.BigEndian.AppendUint64(buf, uint64(f.horizon.Epoch))
	buf = binary.BigEndian.AppendUint64(buf, uint64(p.Version))
	buf = append(buf, id.fingerprint[:]...)
	buf = append(buf, byte(len(id.algorithm)))
	buf = append(buf, id.algorithm...)
	return append(buf, certID...) // last, since its length varies
}
