package feedhttp

import (
	"context"
	"sync"

	"ocspfleet/db"
)

// AccessList has the pins of the sites that may fetch the feed, and of those that no longer
// may. Safe for concurrent use; the zero value admits no site.
type AccessList struct {
	mu     sync.RWMutex // guards all
	owner  Pin
	sites  map[Pin]string
	denied map[Pin]db.ResponderState
	polls  map[*poll]struct{}
}

// poll is a request that waits for a newer checkpoint.
type poll struct {
	pin Pin
	end context.CancelFunc
}

// Set replaces the sites that may fetch; no site is denied by name.
func (a *AccessList) Set(sites map[Pin]string) { a.Replace(sites, nil) }

// Replace replaces both lists: the sites that may fetch, and the sites that are denied, with
// their state. Requests in progress are checked by the new lists before the answer, and long
// polls of removed sites end at once.
func (a *AccessList) Replace(sites map[Pin]string, denied map[Pin]db.ResponderState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sites, a.denied = sites, denied
	for s := range a.polls {
		if !a.admits(s.pin) {
			s.end()
		}
	}
}

// SetOwner admits the holder of this machine's own TLS key: its staff read the feed with it
// (ocspctl feed show). It is not a site.
func (a *AccessList) SetOwner(p Pin) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owner = p
}

// Site returns the name of the site with this pin.
func (a *AccessList) Site(p Pin) (string, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	name, known := a.sites[p]
	return name, known
}

// Admits says whether the holder of a key may fetch.
func (a *AccessList) Admits(p Pin) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.admits(p)
}

func (a *AccessList) admits(p Pin) bool {
	_, known := a.sites[p]
	return known || p == a.owner
}

// Denied returns the roster's state of a site that is known and not admitted.
func (a *AccessList) Denied(p Pin) (db.ResponderState, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	state, denied := a.denied[p]
	return state, denied
}

// Knows says whether the holder of a key is admitted or denied, and so gets an answer.
func (a *AccessList) Knows(p Pin) bool {
	_, denied := a.Denied(p)
	return denied || a.Admits(p)
}

// poll returns a context that ends when the site with this pin is no longer admitted. leave
// releases it.
func (a *AccessList) poll(ctx context.Context, p Pin) (_ context.Context, leave func()) {
	ctx, end := context.WithCancel(ctx)
	s := &poll{p, end}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.admits(p) {
		end()
	}
	if a.polls == nil {
		a.polls = map[*poll]struct{}{}
	}
	a.polls[s] = struct{}{}
	return ctx, func() {
		end()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.polls, s)
	}
}
