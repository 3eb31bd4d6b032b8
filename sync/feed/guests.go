package feed

import (
	"context"
	"sync"

	"ocspfleet/db"
)

// Guests are the sites that may fetch the feed, by the pins of their keys, and those
// that may not any more. Safe for concurrent use; the zero value admits nobody.
type Guests struct {
	mu     sync.RWMutex // guards all
	owner  Pin
	sites  map[Pin]string
	barred map[Pin]db.ResponderState
	stays  map[*stay]struct{}
}

// stay is a guest who waits for news.
type stay struct {
	pin Pin
	end context.CancelFunc
}

// Set replaces the list of who may come: nobody is barred by name.
func (g *Guests) Set(sites map[Pin]string) { g.SetBarring(sites, nil) }

// SetBarring replaces the lists: who may come, and who is told that it may not, and
// why. Requests under way are judged by the new ones before they are answered, and
// those that wait for news end at once.
func (g *Guests) SetBarring(sites map[Pin]string, barred map[Pin]db.ResponderState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sites, g.barred = sites, barred
	for s := range g.stays {
		if !g.admits(s.pin) {
			s.end()
		}
	}
}

// SetOwner lets in whoever holds this machine's own TLS key: its staff look at the feed
// with it (ocspctl feed show). It is no site.
func (g *Guests) SetOwner(p Pin) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owner = p
}

// Site names the guest with this pin.
func (g *Guests) Site(p Pin) (string, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	name, known := g.sites[p]
	return name, known
}

// Admits says whether the holder of a key may fetch.
func (g *Guests) Admits(p Pin) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.admits(p)
}

func (g *Guests) admits(p Pin) bool {
	_, known := g.sites[p]
	return known || p == g.owner
}

// Barred says why a site that is known is not let in: its state on the roster.
func (g *Guests) Barred(p Pin) (db.ResponderState, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	state, barred := g.barred[p]
	return state, barred
}

// knows says whether there is anything to say to the holder of a key.
func (g *Guests) knows(p Pin) bool {
	_, barred := g.Barred(p)
	return barred || g.Admits(p)
}

// stay is a context that ends when the guest with this pin may not come any more.
// leave gives it up.
func (g *Guests) stay(ctx context.Context, p Pin) (_ context.Context, leave func()) {
	ctx, end := context.WithCancel(ctx)
	s := &stay{p, end}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.admits(p) {
		end()
	}
	if g.stays == nil {
		g.stays = map[*stay]struct{}{}
	}
	g.stays[s] = struct{}{}
	return ctx, func() {
		end()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.stays, s)
	}
}
