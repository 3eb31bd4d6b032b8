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

// Guestbook keeps the master's guests as its roster says, and notes there who
// came. Run is called once; Watch is safe for concurrent use.
type Guestbook struct {
	store  *db.Store
	guests *Guests
	log    *slog.Logger
	every  time.Duration // between two looks at the roster

	mu   sync.Mutex // guards seen
	seen map[string]db.FeedGuest
}

const (
	// rosterEvery is how soon a revoked site is shut out.
	rosterEvery = 500 * time.Millisecond
	// noteEvery is how often it is written down who came.
	noteEvery = 5 * time.Second
)

// NewGuestbook keeps guests by the roster in store, by a login in ocsp_publisher.
func NewGuestbook(store *db.Store, guests *Guests, log *slog.Logger) *Guestbook {
	return &Guestbook{store: store, guests: guests, log: log, every: rosterEvery, seen: map[string]db.FeedGuest{}}
}

// Run reads the roster until ctx ends; it returns nil then. While the database is
// away the last list counts.
func (b *Guestbook) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var trouble trouble
	var noted time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		err := b.look(ctx)
		if now := time.Now(); err == nil && now.Sub(noted) >= noteEvery {
			noted = now
			err = b.write(ctx)
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
	roster, err := b.store.FeedPins(ctx)
	if err != nil {
		return err
	}
	sites := make(map[Pin]string, len(roster))
	for pin, site := range roster {
		sites[pin] = site
	}
	b.guests.Set(sites)
	return nil
}

func (b *Guestbook) write(ctx context.Context) error {
	b.mu.Lock()
	seen := make([]db.FeedGuest, 0, len(b.seen))
	for _, guest := range b.seen {
		seen = append(seen, guest)
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
				b.mu.Lock()
				b.seen[site] = db.FeedGuest{Site: site, Position: position, SeenAt: time.Now()}
				b.mu.Unlock()
			}
		}
		h.ServeHTTP(w, r)
	})
}
