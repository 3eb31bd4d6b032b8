package feedhttp

import (
	"context"
	"sync"

	"ocspfleet/db"
)

// AccessList names the sites that may fetch the feed, by the pins of their keys, and those
// that may not any more. Safe for concurrent use; the zero value admits nobody.
type AccessList struct {
	mu     sync.RWMutex // guards all
	owner  Pin
	sites  map[Pin]string
	denied map[Pin]db.ResponderState
	polls  map[*poll]struct{}
}

// poll is a request that waits for news.
type poll struct {
	pin Pin
	end context.CancelFunc
}

// Set replaces the list of who may come: nobody is denied by name.
func (a *AccessList) Set(sites map[Pin]string) { a.Replace(sites, nil) }

// Replace replaces the lists: who may come, and who is told that it may not, and
// why. Requests under way are judged by the new ones before they are answered, and
// those that wait for news end at once.
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

// SetOwner lets in whoever holds this machine's own TLS key: its staff look at the feed
// with it (ocspctl feed show). It is no site.
func (a *AccessList) SetOwner(p Pin) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owner = p
}

// Site names the site with this pin.
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

// Denied says why a site that is known is not let in: its state on the roster.
func (a *AccessList) Denied(p Pin) (db.ResponderState, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	state, denied := a.denied[p]
	return state, denied
}

// knows says whether there is anything to say to the holder of a key.
func (a *AccessList) Knows(p Pin) bool {
	_, denied := a.Denied(p)
	return denied || a.Admits(p)
}

// poll is a context that ends when the site with this pin may not come any more.
// leave gives it up.
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
