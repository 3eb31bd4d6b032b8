package pull_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/pull"
)

// Two sites lose the master and fall back on each other; when it is back they hear
// of its news long before their polls of each other end.
func TestSitesComeBackFromEachOtherToTheMaster(t *testing.T) {
	t.Parallel()
	m, a, b := newMaster(t), newSite(t), newSite(t)
	m.issue(t, 1)
	var dead atomic.Bool
	dies := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if dead.Load() {
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	}
	patient := func(c *pull.Config) { c.Wait = 80 * time.Second; c.Backoff = 20 * time.Millisecond }
	atA, atB := serve(t, a.sync, a.latest, b.id, nil), serve(t, b.sync, b.latest, a.id, nil)
	pa, _ := a.pulls(t, m, patient, serve(t, m.store, m.latest, a.id, dies), atB)
	pb, _ := b.pulls(t, m, patient, serve(t, m.store, m.latest, b.id, dies), atA)
	a.equals(t, m)
	b.equals(t, m)
	dead.Store(true)
	m.issue(t, 2) // ends the polls of the master that are under way
	var fellA, fellB bool
	for range 1000 {
		fellA = fellA || pa.State().Source == atB.String()
		fellB = fellB || pb.State().Source == atA.String()
		if fellA && fellB {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !fellA || !fellB {
		t.Fatalf("fell back on each other: %t, %t", fellA, fellB)
	}
	dead.Store(false)
	m.revoke(t, 1, db.ReasonKeyCompromise)
	a.equals(t, m)
	b.equals(t, m)
}
