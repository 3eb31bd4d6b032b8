package publish

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/db/tables"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"
)

// ClientTracker keeps the access list as the roster says, and notes at the master which sites
// came. Run is called once; Watch is safe for concurrent use.
type ClientTracker struct {
	store  *publisherdb.DB // nil at a relay, which notes nothing
	roster func(context.Context) (map[[32]byte]publisherdb.FeedPin, error)
	access *feedhttp.AccessList
	log    *slog.Logger
	every  time.Duration // between two readings of the roster

	// For Run alone: until when a removed site stays.
	graceEnds map[feedhttp.Pin]time.Time

	moved chan struct{} // a site advanced by many changes: an import may wait for it

	mu    sync.Mutex // guards the fields below
	seen  map[string]db.FeedClient
	noted map[string]int64 // the position that was stored last
}

const (
	// rosterEvery is how soon a revoked site loses access.
	rosterEvery = 500 * time.Millisecond
	// revokeGrace is how long a site that was suspended or revoked just now may continue, so that
	// its waiting poll returns that news, and an honest site stops by itself: 2 s at most, with
	// the reading before. An attacker in a site gains no more than that.
	revokeGrace = 1500 * time.Millisecond
	// noteEvery is how often the sites that came are stored.
	noteEvery = 5 * time.Second
	// manyChanges is how many changes a site must advance to have that stored at once, since an
	// import waits for it: a fifth of one of its transactions.
	manyChanges = 1000
	// noteGap is the least time between two such writes: all sites advance together.
	noteGap = 20 * time.Millisecond
)

// NewClientTracker keeps the access list by the master's roster in store, with a login in
// ocsp_publisher.
func NewClientTracker(store *publisherdb.DB, access *feedhttp.AccessList, log *slog.Logger) *ClientTracker {
	return newClientTracker(store, store.FeedPins, access, log)
}

// NewRelayClientTracker keeps the access list of a relay: the peers of its configuration, without
// those whose keys the master has closed, as the rows here say. Until the first reading no peer
// has access.
func NewRelayClientTracker(store *tables.DB, peers map[feedhttp.Pin]string, access *feedhttp.AccessList, log *slog.Logger) *ClientTracker {
	return newClientTracker(nil, func(ctx context.Context) (map[[32]byte]publisherdb.FeedPin, error) {
		closed, err := store.ClosedPins(ctx)
		if err != nil {
			return nil, err
		}
		roster := map[[32]byte]publisherdb.FeedPin{}
		for pin, site := range peers {
			state := db.ResponderActive
			if closed[pin] { // or revoked: a relay makes no difference
				state = db.ResponderSuspended
			}
			roster[pin] = publisherdb.FeedPin{Site: site, State: state}
		}
		return roster, nil
	}, access, log)
}

func newClientTracker(store *publisherdb.DB, roster func(context.Context) (map[[32]byte]publisherdb.FeedPin, error), access *feedhttp.AccessList, log *slog.Logger) *ClientTracker {
	return &ClientTracker{store: store, roster: roster, access: access, log: log, every: rosterEvery, moved: make(chan struct{}, 1), seen: map[string]db.FeedClient{}, noted: map[string]int64{}}
}

// Run reads the roster until ctx ends; it returns nil then. While the database is away the last
// list counts.
func (t *ClientTracker) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var trouble health.Trouble
	var noted time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-t.moved:
			if err = t.writeSoon(ctx); err == nil {
				continue
			}
		case <-timer.C:
			err = t.readRoster(ctx)
			if now := time.Now(); err == nil && (now.Sub(noted) >= noteEvery || t.inGrace(now)) {
				noted = now
				err = t.write(ctx)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if trouble.Set(text) && err != nil {
			t.log.WarnContext(ctx, "roster cannot be read", slog.String("error", text))
		}
		timer.Reset(t.every)
	}
}

func (t *ClientTracker) readRoster(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, feedhttp.CallTimeout)
	defer cancel()
	roster, err := t.roster(ctx)
	if err != nil {
		return err
	}
	t.admit(roster, time.Now())
	return nil
}

// admit gives access to the active sites, and for a moment to those that were active just now.
func (t *ClientTracker) admit(roster map[[32]byte]publisherdb.FeedPin, now time.Time) {
	sites, denied, graceEnds := map[feedhttp.Pin]string{}, map[feedhttp.Pin]db.ResponderState{}, map[feedhttp.Pin]time.Time{}
	for pin, r := range roster {
		if r.State == db.ResponderActive {
			sites[pin] = r.Site
			continue
		}
		until, known := t.graceEnds[pin]
		if _, in := t.access.Site(pin); in && !known {
			until = now.Add(revokeGrace)
		}
		graceEnds[pin] = until
		if now.Before(until) {
			sites[pin] = r.Site
		} else {
			denied[pin] = r.State
		}
	}
	t.graceEnds = graceEnds
	t.access.Replace(sites, denied)
}

// inGrace says whether a site was removed just now: responder revoke waits until it reads here
// that the site has fetched its own revocation.
func (t *ClientTracker) inGrace(now time.Time) bool {
	for _, until := range t.graceEnds {
		if now.Before(until) {
			return true
		}
	}
	return false
}

// writeSoon stores which sites came, with those that come just after.
func (t *ClientTracker) writeSoon(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(noteGap):
	}
	return t.write(ctx)
}

func (t *ClientTracker) write(ctx context.Context) error {
	t.mu.Lock()
	seen := make([]db.FeedClient, 0, len(t.seen))
	for site, client := range t.seen {
		seen = append(seen, client)
		t.noted[site] = client.Position
	}
	clear(t.seen)
	t.mu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, feedhttp.CallTimeout)
	defer cancel()
	return t.store.SawFeedClients(ctx, seen)
}

// Watch notes which site asks h for news, and its position.
func (t *ClientTracker) Watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pin, ok := feedhttp.PeerPin(r.TLS); ok && (r.URL.Path == "/feed/checkpoint" || r.URL.Path == "/feed/news") {
			position, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
			if site, known := t.access.Site(pin); known && err == nil && position >= 0 {
				t.came(site, position, feed.FormOf(r.UserAgent()))
			}
		}
		h.ServeHTTP(w, r)
	})
}

func (t *ClientTracker) came(site string, position int64, form int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[site] = db.FeedClient{Site: site, Position: position, SeenAt: time.Now(), Form: form}
	if noted, known := t.noted[site]; !known || position-noted >= manyChanges {
		select {
		case t.moved <- struct{}{}:
		default: // a write is due already
		}
	}
}
