package feed

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ocspfleet/db"
)

// Guestbook keeps the guests as the roster says, and notes at the master who came.
// Run is called once; Watch is safe for concurrent use.
type Guestbook struct {
	store  *db.Store
	roster func(context.Context) (map[[32]byte]db.FeedPin, error)
	guests *Guests
	log    *slog.Logger
	every  time.Duration // between two looks at the roster

	// Run's alone: until when a site that was taken out stays.
	leaving map[Pin]time.Time

	moved chan struct{} // a site went on by many changes: an import may wait for it

	mu    sync.Mutex // guards what follows
	seen  map[string]db.FeedGuest
	noted map[string]int64 // position that was written down last
}

const (
	// rosterEvery is how soon a revoked site is shut out.
	rosterEvery = 500 * time.Millisecond
	// Farewell is how long a site that was suspended or revoked just now may go on, so
	// that the poll that it waits in brings it that news, and an honest one stops by
	// itself: 2 s at most, with the look before. One that was broken into gains no more.
	Farewell = 1500 * time.Millisecond
	// noteEvery is how often it is written down who came.
	noteEvery = 5 * time.Second
	// manyChanges is how far a site goes on to have that written down at once, which is
	// what an import waits for: a fifth of one of its transactions.
	manyChanges = 1000
	// noteGap is the least time between two such notes: all sites go on together.
	noteGap = 20 * time.Millisecond
)

// NewGuestbook keeps guests by the master's roster in store, by a login in ocsp_publisher.
func NewGuestbook(store *db.Store, guests *Guests, log *slog.Logger) *Guestbook {
	return newGuestbook(store, store.FeedPins, guests, log)
}

// NewRelayGuestbook keeps the guests of a relay: the peers of its configuration, without
// those whose keys the master has closed, as the rows here say. Until they can be read
// first, nobody is let in.
func NewRelayGuestbook(store *db.Store, peers map[Pin]string, guests *Guests, log *slog.Logger) *Guestbook {
	return newGuestbook(store, func(ctx context.Context) (map[[32]byte]db.FeedPin, error) {
		closed, err := store.ClosedPins(ctx)
		if err != nil {
			return nil, err
		}
		roster := map[[32]byte]db.FeedPin{}
		for pin, site := range peers {
			state := db.ResponderActive
			if closed[pin] { // or revoked: all the same to a relay
				state = db.ResponderSuspended
			}
			roster[pin] = db.FeedPin{Site: site, State: state}
		}
		return roster, nil
	}, guests, log)
}

func newGuestbook(store *db.Store, roster func(context.Context) (map[[32]byte]db.FeedPin, error), guests *Guests, log *slog.Logger) *Guestbook {
	return &Guestbook{store: store, roster: roster, guests: guests, log: log, every: rosterEvery, moved: make(chan struct{}, 1), seen: map[string]db.FeedGuest{}, noted: map[string]int64{}}
}

// Run reads the roster until ctx ends; it returns nil then. While the database is
// away the last list counts.
func (b *Guestbook) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var trouble trouble
	var noted time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-b.moved:
			if err = b.writeSoon(ctx); err == nil {
				continue
			}
		case <-timer.C:
			err = b.look(ctx)
			if now := time.Now(); err == nil && (now.Sub(noted) >= noteEvery || b.parting(now)) {
				noted = now
				err = b.write(ctx)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if trouble.set(text) && err != nil {
			b.log.WarnContext(ctx, "roster cannot be read", slog.String("error", text))
		}
		timer.Reset(b.every)
	}
}

func (b *Guestbook) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	roster, err := b.roster(ctx)
	if err != nil {
		return err
	}
	b.admit(roster, time.Now())
	return nil
}

// admit lets in the active sites, and for a moment those that were active just now.
func (b *Guestbook) admit(roster map[[32]byte]db.FeedPin, now time.Time) {
	sites, barred, leaving := map[Pin]string{}, map[Pin]db.ResponderState{}, map[Pin]time.Time{}
	for pin, r := range roster {
		if r.State == db.ResponderActive {
			sites[pin] = r.Site
			continue
		}
		until, known := b.leaving[pin]
		if _, in := b.guests.Site(pin); in && !known {
			until = now.Add(Farewell)
		}
		leaving[pin] = until
		if now.Before(until) {
			sites[pin] = r.Site
		} else {
			barred[pin] = r.State
		}
	}
	b.leaving = leaving
	b.guests.SetBarring(sites, barred)
}

// parting says whether a site is in its farewell: who takes it out waits to read that
// it has the news.
func (b *Guestbook) parting(now time.Time) bool {
	for _, until := range b.leaving {
		if now.Before(until) {
			return true
		}
	}
	return false
}

// writeSoon writes down who came, with those who come just after.
func (b *Guestbook) writeSoon(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(noteGap):
	}
	return b.write(ctx)
}

func (b *Guestbook) write(ctx context.Context) error {
	b.mu.Lock()
	seen := make([]db.FeedGuest, 0, len(b.seen))
	for site, guest := range b.seen {
		seen = append(seen, guest)
		b.noted[site] = guest.Position
	}
	clear(b.seen)
	b.mu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return b.store.SawFeedGuests(ctx, seen)
}

// Watch notes who asks h for news: it says how far it is.
func (b *Guestbook) Watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pin, ok := peerPin(r.TLS); ok && (r.URL.Path == "/feed/checkpoint" || r.URL.Path == "/feed/news") {
			position, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
			if site, known := b.guests.Site(pin); known && err == nil && position >= 0 {
				b.came(site, position, formOf(r.UserAgent()))
			}
		}
		h.ServeHTTP(w, r)
	})
}

func (b *Guestbook) came(site string, position int64, form int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen[site] = db.FeedGuest{Site: site, Position: position, SeenAt: time.Now(), Form: form}
	if noted, known := b.noted[site]; !known || position-noted >= manyChanges {
		select {
		case b.moved <- struct{}{}:
		default: // it is told already
		}
	}
}
