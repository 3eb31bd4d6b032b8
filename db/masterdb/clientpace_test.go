package masterdb

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// An import waits for a site that follows the feed and has not got far enough, and
// never for one that is silent: whatever the sites do, it waits for none longer than
// its patience at a time, and for four fifths of the time in all.
func TestPaceWaitsForClientsThatKeepUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var pace paceClients
		began := time.Now()
		now, head, target := began, int64(100_000), int64(0)
		sites := map[string]int64{}
		since, waited := map[string]time.Time{}, time.Duration(0)
		for range rapid.IntRange(1, 4).Draw(t, "sites") {
			sites[fmt.Sprint("site-", len(sites))] = rapid.Int64Range(0, head).Draw(t, "position")
		}
		old := map[string]bool{} // those that were away when the import began
		for name := range sites {
			old[name] = rapid.Bool().Draw(t, "away")
		}
		for range rapid.IntRange(1, 200).Draw(t, "looks") {
			passed := time.Duration(rapid.Int64Range(1, int64(2*time.Second)).Draw(t, "passed"))
			now = now.Add(passed)
			var clients []paceClient
			possible := false // somebody who may be waited for
			for name, at := range sites {
				if rapid.Bool().Draw(t, "moves") {
					at = min(head, at+rapid.Int64Range(0, 20_000).Draw(t, "by"))
					sites[name], old[name] = at, false
				}
				age := time.Second
				if old[name] {
					age = 2 * clientFresh
				}
				clients = append(clients, paceClient{name, at, age})
				if at >= target {
					since[name] = now
				} else if !old[name] && now.Sub(since[name]) <= clientLag || since[name].IsZero() && !old[name] && head-at <= clientNear {
					possible = true
				}
				if since[name].IsZero() {
					since[name] = now
				}
			}
			behind := pace.behind(clients, head, target, now)
			if behind && !possible {
				t.Fatalf("waiting at %v for sites %v to reach %d, none of which keeps up", now.Sub(began), sites, target)
			}
			if behind {
				if waited += passed; waited > time.Duration(len(sites))*(clientLag+2*time.Second+now.Sub(began)*4/5) {
					t.Fatalf("waited for %v of %v", waited, now.Sub(began))
				}
				continue
			}
			target, head = head, head+5000
		}
	})
}

func TestPaceOfClients(t *testing.T) {
	at := time.Now()
	look := func(p *paceClients, after time.Duration, target int64, clients ...paceClient) bool {
		return p.behind(clients, 10_000, target, at.Add(after))
	}
	fresh := func(position int64) paceClient { return paceClient{"site-a", position, time.Second} }
	var p paceClients
	if look(&p, 0, 0, fresh(9000)) {
		t.Error("waits though nothing was written yet")
	}
	if !look(&p, time.Second, 10_000, fresh(9000)) || !look(&p, 2*time.Second, 10_000, fresh(9999)) {
		t.Error("does not wait for a site that is near")
	}
	if look(&p, 3*time.Second, 10_000, fresh(10_000)) {
		t.Error("waits for a site that has all")
	}
	if !look(&p, 12*time.Second, 15_000, fresh(10_000)) || look(&p, 14*time.Second, 15_000, fresh(10_000)) {
		t.Error("wants to wait 10 s for a site that fell silent, and no longer")
	}
	if look(&p, 15*time.Second, 15_000, fresh(14_000)) {
		t.Error("waits for a site that catches up")
	}
	if look(&p, 16*time.Second, 15_000, fresh(15_000)) || !look(&p, 17*time.Second, 20_000, fresh(15_000)) {
		t.Error("does not wait for a site that keeps up again")
	}
	var other paceClients
	away, far := paceClient{"site-b", 9000, time.Hour}, paceClient{"site-c", 10_000 - clientNear - 1, time.Second}
	if look(&other, 0, 0, away, far) || look(&other, time.Second, 10_000, away, far) {
		t.Error("waits for a site that was away, or one that catches up")
	}
}
