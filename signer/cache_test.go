package signer

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"math/big"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// A cached signature is used while its thisUpdate is at most refresh behind
// the horizon, then signed anew.
func TestCacheFollowsTheHorizon(t *testing.T) {
	r := newRig(t)
	first := r.ask(signertest.GoodSerial)
	signs := r.Keys.Signs.Load()
	for _, after := range []time.Duration{time.Second, 10 * time.Minute, 15 * time.Minute} {
		r.SetTime(signertest.Noon.Add(after))
		r.Copy.Heartbeat(r.Time())
		if a := r.ask(signertest.GoodSerial); !bytes.Equal(a.Body, first.Body) {
			t.Errorf("after %s: signed anew", after)
		}
	}
	r.SetTime(signertest.Noon.Add(15*time.Minute + time.Second))
	r.Copy.Heartbeat(r.Time())
	second := r.ask(signertest.GoodSerial)
	if bytes.Equal(second.Body, first.Body) || !second.ThisUpdate.Equal(r.Time().Add(-5*time.Minute)) {
		t.Errorf("after a quarter of an hour the old signature is used: thisUpdate %s", second.ThisUpdate)
	}
	if n := r.Keys.Signs.Load() - signs; n != 1 {
		t.Errorf("%d signatures", n)
	}
	// The master dies: the horizon stands still, and so does the signature.
	r.SetTime(signertest.Noon.Add(30 * time.Hour))
	if a := r.ask(signertest.GoodSerial); !bytes.Equal(a.Body, second.Body) {
		t.Error("signed anew although nothing new is known")
	}
	r.SetTime(signertest.Noon.Add(38 * time.Hour))
	wantClass(t, r.ask(signertest.GoodSerial), Unauthorized) // cached or not: the table decides
}

// X-Road refuses what is over 60 minutes old, and asks without a nonce: how old a
// signature may be is a policy of its own, whatever HTTP caches may do.
func TestACachedAnswerLagsByRefreshAtMost(t *testing.T) {
	const never = time.Duration(-1)
	for name, c := range map[string]struct {
		validity, refresh, maxAge, lag time.Duration
	}{
		"by default":               {72 * time.Hour, 15 * time.Minute, time.Hour, 15 * time.Minute},
		"0: at each new horizon":   {72 * time.Hour, 0, time.Hour, 0},
		"no caches of HTTP":        {72 * time.Hour, time.Hour, 0, time.Hour},
		"a quarter of validity":    {2 * time.Hour, 9 * time.Hour, time.Minute, 30 * time.Minute},
		"negative, from elsewhere": {72 * time.Hour, never, time.Hour, 0},
	} {
		r := newRig(t)
		r.policy(func(p *db.Policy) {
			p.Validity, p.MaxStaleness, p.Refresh, p.HTTPMaxAge = c.validity, c.validity/2, c.refresh, c.maxAge
		})
		first := r.ask(signertest.GoodSerial)
		if first.MaxAge != c.maxAge {
			t.Errorf("%s: max-age %s", name, first.MaxAge)
		}
		// As old as it may be, it is given again; it was looked up now all the same.
		for _, since := range []struct {
			horizon time.Duration
			again   bool
		}{{0, true}, {c.lag, true}, {c.lag + time.Second, false}} {
			r.SetTime(signertest.Noon.Add(since.horizon))
			r.Copy.Heartbeat(r.Time())
			if again := bytes.Equal(r.ask(signertest.GoodSerial).Body, first.Body); again != since.again {
				t.Errorf("%s, %s after: given again: %t", name, since.horizon, again)
			}
		}
	}
}

// A longer refresh is no other answer: what is kept is given under it, too.
func TestRefreshIsNoPartOfTheContentKey(t *testing.T) {
	r := newRig(t)
	first := r.ask(signertest.GoodSerial)
	r.policy(func(p *db.Policy) { p.Refresh, p.Version = time.Hour, p.Version-1 })
	r.SetTime(signertest.Noon.Add(time.Hour))
	r.Copy.Heartbeat(r.Time())
	if !bytes.Equal(r.ask(signertest.GoodSerial).Body, first.Body) {
		t.Error("signed anew")
	}
}

// A permanent revocation that the copy knew is dated by the horizon, as good is, and by
// our clock once the copy is too old for good: then its signature ages by the clock.
func TestCacheOfRevokedFollowsTheHorizonThenTheClock(t *testing.T) {
	r := newRig(t)
	first := r.ask(signertest.RevokedSerial)
	r.SetTime(signertest.Noon.Add(36 * time.Hour))
	if !bytes.Equal(r.ask(signertest.RevokedSerial).Body, first.Body) {
		t.Error("signed anew although nothing new is known")
	}
	r.SetTime(signertest.Noon.Add(36*time.Hour + time.Second))
	second := r.ask(signertest.RevokedSerial)
	if !second.ThisUpdate.Equal(r.Time().Add(-5 * time.Minute)) {
		t.Errorf("thisUpdate %s with the master long dead", second.ThisUpdate)
	}
	r.SetTime(r.Time().Add(15 * time.Minute))
	if !bytes.Equal(r.ask(signertest.RevokedSerial).Body, second.Body) {
		t.Error("signed anew within refresh")
	}
	r.SetTime(r.Time().Add(time.Second))
	if bytes.Equal(r.ask(signertest.RevokedSerial).Body, second.Body) {
		t.Error("an old signature is used although the master is only dead")
	}
}

// The clock is set back: what was signed in the future is not used.
func TestCacheAfterClockSetBack(t *testing.T) {
	r := newRig(t)
	r.SetTime(signertest.Noon.Add(time.Hour))
	r.Copy.Heartbeat(r.Time())
	later := r.ask(signertest.RevokedSerial)
	r.SetTime(signertest.Noon)
	if a := r.ask(signertest.RevokedSerial); bytes.Equal(a.Body, later.Body) || a.ThisUpdate.After(signertest.Noon) {
		t.Errorf("thisUpdate %s lies ahead", a.ThisUpdate)
	}
}

// unknown is short-lived, and a cached one keeps a fair part of its time.
func TestCacheOfUnknown(t *testing.T) {
	r := newRig(t)
	wantClass(t, r.ask(signertest.AbsentSerial), Unknown)
	for second := range 3600 {
		r.SetTime(signertest.Noon.Add(time.Duration(second) * time.Second))
		r.Copy.Heartbeat(r.Time())
		if a := r.ask(signertest.AbsentSerial); a.NextUpdate.Sub(r.Time()) < 5*time.Minute || a.MaxAge > time.Minute {
			t.Fatalf("after %d s: nextUpdate in %s, max-age %s", second, a.NextUpdate.Sub(r.Time()), a.MaxAge)
		}
	}
	if n := r.Keys.Signs.Load(); n > 20 {
		t.Errorf("%d signatures in an hour", n)
	}
}

// What the content key must tell apart: each change alone makes another answer.
func TestContentKeyTellsApart(t *testing.T) {
	id := &Identity{algorithm: []byte{1}}
	type content struct {
		certID []byte
		d      decision
		f      copyStatus
		p      policy
		id     *Identity
	}
	make1 := func(edit func(*content)) string {
		c := content{certID: []byte("certid"), d: decision{class: Revoked, reason: 1, revokedAt: signertest.Noon}, id: id}
		edit(&c)
		return string(appendContent(nil, c.certID, c.d, c.f, c.p, c.id))
	}
	seen := make(map[string]int)
	for i, edit := range []func(*content){
		func(*content) {},
		func(c *content) { c.certID = []byte("certiE") },
		func(c *content) { c.d.class = Good },
		func(c *content) { c.d.reason = db.ReasonNone },
		func(c *content) { c.d.revokedAt = signertest.Noon.Add(time.Second) },
		func(c *content) { c.d.extended = true },
		func(c *content) { c.f.status.Changed = 1 },
		func(c *content) { c.f.horizon.Epoch = 1 },
		func(c *content) { c.p.Version = 1 },
		func(c *content) { c.id = &Identity{algorithm: []byte{1}, fingerprint: [32]byte{1}} },
		func(c *content) { c.id = &Identity{algorithm: []byte{2}} },
	} {
		key := make1(edit)
		if before, twice := seen[key]; twice {
			t.Errorf("change %d has the key of change %d", i, before)
		}
		seen[key] = i
	}
	// Position and as_of are not in it: news about others changes nothing here.
	if make1(func(c *content) { c.f.horizon.Position, c.f.horizon.AsOf = 9, signertest.Noon }) != make1(func(*content) {}) {
		t.Error("the horizon's position is in the key")
	}
}

// The CertID as sent is in the key: NULL and absent parameters are two answers.
func TestCacheKeepsCertIDsApart(t *testing.T) {
	r := newRig(t)
	one, two := r.Request(signertest.GoodSerial), signertest.Request(t, r.CA, crypto.SHA256, signertest.GoodSerial)
	for range 2 {
		for _, request := range [][]byte{one, two} {
			if a := r.Answer(t.Context(), request); !bytes.Contains(a.Body, signertest.CertID(t, request)) {
				t.Fatal("answered with another CertID")
			}
		}
	}
}

func testEntry(c *cache, n int, size int) (*entry, []byte) {
	key := binary.BigEndian.AppendUint64(nil, uint64(n))
	return &entry{hash: c.hash(key), key: key, body: make([]byte, size), nextUpdate: signertest.Noon}, key
}

// The bound is hard, also for entries larger than a shard, and what is in demand
// outlives a flood of what is asked once.
func TestCacheIsBoundedAndSparesTheWanted(t *testing.T) {
	const limit = 4 << 20
	c := newCache(limit)
	wanted, key := testEntry(c, -1, 1200)
	put := func(e *entry) {
		f := &call{hash: e.hash, key: e.key, done: make(chan struct{}), entry: e}
		c.finish(f, c.epoch.Load())
	}
	put(wanted)
	for n := range 50_000 {
		e, _ := testEntry(c, n, 800+n%1000)
		put(e)
		if n%50 == 0 && c.get(wanted.hash, key) == nil {
			t.Fatalf("what is in demand was driven out after %d others", n)
		}
	}
	huge, _ := testEntry(c, 99_999_999, limit)
	put(huge)
	entries, size := c.stats()
	if size > limit || entries < 1000 || c.evictions.Load() == 0 {
		t.Errorf("%d entries, %d octets of %d, %d evictions", entries, size, limit, c.evictions.Load())
	}
	var counted int64
	for i := range c.shards {
		for slot, e := range c.shards[i].ring {
			if counted += e.cost(); e.slot != slot || c.shards[i].entries[e.hash] != e {
				t.Fatal("ring and map disagree")
			}
		}
	}
	if counted != size {
		t.Errorf("size says %d, the entries %d", size, counted)
	}
	c.empty()
	if entries, size := c.stats(); entries != 0 || size != 0 {
		t.Errorf("emptied: %d entries, %d octets", entries, size)
	}
}

// A signature that was under way when the cache was emptied is not kept.
func TestEmptiedCacheStaysEmpty(t *testing.T) {
	c := newCache(1 << 20)
	e, key := testEntry(c, 1, 100)
	f, leader, _ := c.begin(e.hash, key, decision{}, signertest.Noon)
	if !leader {
		t.Fatal("not the leader of the first call")
	}
	epoch := c.epoch.Load()
	c.empty()
	f.entry = e
	c.finish(f, epoch)
	if entries, _ := c.stats(); entries != 0 {
		t.Error("kept")
	}
}

// Two contents with one hash: both are signed, neither gets the other's answer.
func TestHashCollision(t *testing.T) {
	c := newCache(1 << 20)
	one, _, _ := c.begin(7, []byte("one"), decision{}, signertest.Noon)
	two, leader, _ := c.begin(7, []byte("two"), decision{}, signertest.Noon)
	if !leader || one == two {
		t.Fatal("the second waits for the first's answer")
	}
	for _, f := range []*call{one, two} {
		f.entry = &entry{hash: 7, key: f.key}
		c.finish(f, 0)
	}
	if c.get(7, []byte("one")) != nil || c.get(7, []byte("two")) == nil {
		t.Error("the later one should stand")
	}
}

func TestNoCache(t *testing.T) {
	r := newRig(t, func(c *Config) { c.CacheBytes = -1 })
	before := r.Keys.Signs.Load()
	r.ask(big.NewInt(1))
	r.ask(big.NewInt(1))
	if n := r.Keys.Signs.Load() - before; n != 2 {
		t.Errorf("%d signatures", n)
	}
}
