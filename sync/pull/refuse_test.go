package pull_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/pull"
)

// replay records the first checkpoint that a source showed, and shows it again
// and again from then on.
func replay(on *atomic.Bool) func(http.Handler) http.Handler {
	var mu sync.Mutex
	var old []byte
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/feed/news" {
				h.ServeHTTP(w, r)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if on.Load() && old != nil {
				_, _ = w.Write(old)
				return
			}
			h.ServeHTTP(&keeper{w, &old, http.StatusOK}, r)
		})
	}
}

// keeper records the first answer that is no refusal: the master may have signed nothing yet.
type keeper struct {
	http.ResponseWriter
	old  *[]byte
	code int
}

func (k *keeper) WriteHeader(code int) {
	k.code = code
	k.ResponseWriter.WriteHeader(code)
}

func (k *keeper) Write(b []byte) (int, error) {
	if *k.old == nil && k.code == http.StatusOK {
		*k.old = append([]byte(nil), b...)
	}
	return k.ResponseWriter.Write(b)
}

// awaitTrouble waits until the puller says what.
func awaitTrouble(t *testing.T, p *pull.Puller, what error) {
	t.Helper()
	var last string
	for range 12_000 {
		if last = p.State().Trouble; strings.Contains(last, what.Error()) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("the puller says %q, want %q", last, what)
}

func TestOldHistoryIsRefused(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	var on atomic.Bool
	client := serve(t, m.store, m.latest, s.id, replay(&on))
	p, _ := s.pulls(t, m, nil, client)
	s.equals(t, m)
	for n := range 3 {
		m.issue(t, n)
		s.equals(t, m)
	}
	before, err := s.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	on.Store(true)
	awaitTrouble(t, p, pull.ErrRollback)
	if after, err := s.store.Head(t.Context()); err != nil || after.Position < before.Position || after.AsOf.Before(before.AsOf) {
		t.Errorf("the copy went back: %+v, %v", after, err)
	}
	on.Store(false)
	m.issue(t, 10)
	s.equals(t, m)
}

// A source that stands still is left for one that does not.
func TestFrozenSourceIsLeftForAnother(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	var on atomic.Bool
	on.Store(true)
	frozen := serve(t, m.store, m.latest, s.id, replay(&on))
	impatient := func(c *pull.Config) { c.StaleAfter = 300 * time.Millisecond }
	p, stop := s.pulls(t, m, impatient, frozen)
	awaitTrouble(t, p, pull.ErrStale)
	stop()
	s.pulls(t, m, impatient, frozen, serve(t, m.store, m.latest, s.id, nil))
	m.issue(t, 1)
	s.equals(t, m)
}

func TestCheckpointOfTheFutureIsRefused(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	p, _ := s.pulls(t, m, func(c *pull.Config) {
		c.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) }
	}, serve(t, m.store, m.latest, s.id, nil))
	awaitTrouble(t, p, pull.ErrFuture)
	if head, err := s.store.Head(t.Context()); err == nil {
		t.Errorf("the copy is at %d", head.Position)
	}
}

// A segment without changes is passed by a snapshot, under the readers' eyes: they see the old copy
// or the new one.
func TestLeapIsPassedByASnapshot(t *testing.T) {
	if testing.Short() {
		t.Skip("writes more changes than a segment holds")
	}
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	m.issue(t, 1)
	s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			err := s.store.Site.ReadTx(ctx, func(ctx context.Context, l *sitedb.ReadTx) error {
				var tally db.Tally
				if err := l.Certificates(ctx, func(_ uint64, canonical []byte) error { tally.Add(canonical); return nil }); err != nil {
					return err
				}
				if tally != l.Head.Certificates {
					t.Errorf("a reader saw %+v under a head of %+v", tally, l.Head.Certificates)
				}
				return nil
			})
			// On a busy machine the swap may keep a reader out for longer than it waits.
			if err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "another session holds") {
				t.Error(err)
			}
		}
	})
	dbtest.Exec(t, m.dsn, "insert into certificate select 1, '\\x41' || int4send(g), '2099-01-01' from generate_series(1, 270000) g")
	s.equals(t, m)
	cancel()
	reading.Wait()
}

// New keys come by a set of the root; a banned one signs nothing any more.
func TestBannedKeySignsNothing(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	stolen := feed.KeySet{Origin: origin, Number: 2, Epoch: m.keys.Epoch, Keys: []feed.FeedKey{m.keys.Keys[0]}, Banned: []string{m.key.Verifier()}}
	stolen.Keys[0].Verifier = feedKey(t).Verifier()
	signed, err := stolen.Sign(m.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sync.KeepFeedKeys(t.Context(), 2, signed); err != nil { // this site heard of it
		t.Fatal(err)
	}
	p, _ := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	awaitTrouble(t, p, feed.ErrForged)
	if head, err := s.store.Head(t.Context()); err == nil {
		t.Errorf("the copy is at %d", head.Position)
	}
}

// A permanent revocation that the copy knows is not taken back, though it is signed.
func TestSignedUnrevocationIsRefused(t *testing.T) {
	t.Parallel()
	m, s := newMaster(t), newSite(t)
	m.issue(t, 1)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	p, _ := s.pulls(t, m, func(c *pull.Config) { c.Recount = time.Hour }, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	dbtest.Exec(t, m.dsn, "alter table certificate disable trigger guard; update certificate set revoked_at = null, reason = null")
	awaitTrouble(t, p, db.ErrRevocationsLost)
	var revoked int
	if err := dbtest.Connect(t, s.dsn).QueryRow(t.Context(), "select count(*) from certificate where revoked_at is not null").Scan(&revoked); err != nil || revoked != 1 {
		t.Errorf("%d certificates are revoked at the site, want 1 (%v)", revoked, err)
	}
}

// From nothing to a whole copy of half a million certificates.
func BenchmarkSeed(b *testing.B) {
	m := newMaster(b)
	const rows = 500_000
	dbtest.Exec(b, m.dsn, "insert into certificate select 1, '\\x40' || substring(sha256(int4send(g)) for 15), timestamptz '2099-01-01' + g % 7776000 * interval '1 s' from generate_series(1, 500000) g")
	for {
		if n, err := m.store.NewestSnapshot(b.Context(), m.keys.Epoch); err == nil && n.Octets > 1<<20 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for b.Loop() {
		b.StopTimer()
		s := newSite(b)
		client := serve(b, m.store, m.latest, s.id, nil)
		b.StartTimer()
		_, stop := s.pulls(b, m, nil, client)
		for {
			if head, err := s.store.Head(b.Context()); err == nil && head.Certificates.Count == rows {
				break
			}
			time.Sleep(time.Millisecond)
		}
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
}
