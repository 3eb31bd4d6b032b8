package publish

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"
	"ocspfleet/sync/lookup"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/mod/sumdb/note"
)

// LookupServerConfig configures the answers to questions for single serials, at the master.
type LookupServerConfig struct {
	// Store is the master's database, by a login in ocsp_publisher.
	Store *publisherdb.DB
	// Key signs answers; the key set names it for answers.
	Key *feed.Key
	// Keys is the set in force; with a Root a newer one is taken.
	Keys *feed.KeySet
	Root note.Verifier
	// Ask replaces Store, Key, Keys and Root at a relay: it asks the master, and the relay returns
	// the signed answer unchanged.
	Ask func(ctx context.Context, issuer [32]byte, serial db.Serial) ([]byte, error)
	// Rate is how many questions one site may ask each second, in the long run, and Burst how many
	// at once. Defaults 20 and 40: enough if 20 certificates are issued a second and each is asked
	// for before the feed brings it. Beyond it: 429.
	Rate, Burst float64
	// Metrics counts; it may be nil.
	Metrics *LookupServerMetrics
	Log     *slog.Logger
	// Now is the clock of the rate. Default time.Now.
	Now func() time.Time
}

// LookupServer answers what the master knows of one serial, signed by the master. Safe for
// concurrent use.
type LookupServer struct {
	cfg     LookupServerConfig
	trouble health.Trouble

	mu      sync.Mutex // guards ring and buckets
	ring    keyring
	buckets map[feedhttp.Pin]*lookup.Bucket
}

// NewLookupServer sets the defaults.
func NewLookupServer(cfg LookupServerConfig) *LookupServer {
	if cfg.Metrics == nil {
		cfg.Metrics = NewLookupServerMetrics(nil)
	}
	if cfg.Rate == 0 {
		cfg.Rate, cfg.Burst = 20, 40
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &LookupServer{cfg: cfg, buckets: map[feedhttp.Pin]*lookup.Bucket{}}
	if cfg.Ask == nil {
		l.ring = newKeyring(cfg.Store, cfg.Root, cfg.Keys, cfg.Key)
		l.ring.uses = func(k *feed.KeySet) []feed.FeedKey { return k.Answers }
	}
	return l
}

// Trouble says why no question can be answered; empty: no fault is known, or l is nil.
func (l *LookupServer) Trouble() string {
	if l == nil {
		return ""
	}
	return l.trouble.Get()
}

// admits takes one question from a site's share.
func (l *LookupServer) admits(pin feedhttp.Pin) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[pin]
	if b == nil { // as many buckets as sites
		b = lookup.NewBucket(l.cfg.Rate, l.cfg.Burst)
		l.buckets[pin] = b
	}
	return b.Take(l.cfg.Now())
}

// answer signs the master's current answer on a serial.
func (l *LookupServer) answer(ctx context.Context, issuer [32]byte, serial db.Serial) ([]byte, error) {
	if l.cfg.Ask != nil {
		return l.cfg.Ask(ctx, issuer, serial)
	}
	asked, err := l.cfg.Store.Asked(ctx, issuer, serial)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	_, err = l.ring.renew(ctx, l.cfg.Now())
	set := l.ring.set
	var key *feed.Key
	if err == nil {
		key, err = l.ring.signer(asked.Epoch, asked.AsOf)
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	a := NewAnswer(set.Origin, set.Number, issuer, serial, asked)
	return a.Sign(key)
}

// ServeHTTP serves GET /feed/ask?issuer=HEX&serial=HEX.
func (l *LookupServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	query := r.URL.Query()
	issuer, err := hex.DecodeString(query.Get("issuer"))
	serial, err2 := hex.DecodeString(query.Get("serial"))
	if err != nil || err2 != nil || len(issuer) != len(feed.Hash{}) || db.Serial(serial).Check() != nil {
		http.Error(w, "issuer wants 64 hex digits, serial 1 to 20 octets in hex", http.StatusBadRequest)
		return
	}
	pin, _ := feedhttp.PeerPin(r.TLS) // without an access list: all share one rate
	if !l.admits(pin) {
		l.cfg.Metrics.count(lookupLimited)
		http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), feedhttp.CallTimeout)
	defer cancel()
	signed, err := l.answer(ctx, [32]byte(issuer), serial)
	switch {
	case err == nil:
		l.trouble.Set("")
		l.cfg.Metrics.count(lookupAnswered)
		feedhttp.ExtendWrite(w, 0, len(signed))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(signed) // a client that leaves early asks again
		return
	case errors.Is(err, publisherdb.ErrNoIssuer), errors.Is(err, db.ErrNotFound):
		http.Error(w, http.StatusText(http.StatusNotFound), http.StatusNotFound)
	case r.Context().Err() != nil: // the client left
	default:
		if l.cfg.Ask == nil && l.trouble.Set(err.Error()) { // a relay does not report its master's trouble
			l.cfg.Log.ErrorContext(ctx, "questions cannot be answered", slog.String("error", err.Error()))
		}
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
	}
	l.cfg.Metrics.count(lookupFailed)
}

// LookupServerMetrics counts questions.
type LookupServerMetrics struct{ asked *prometheus.CounterVec }

// The outcomes of a question.
const (
	lookupAnswered = "answered"
	lookupLimited  = "limited" // the site asked too often
	lookupFailed   = "failed"
)

// NewLookupServerMetrics registers the metrics of questions; nil registers none.
func NewLookupServerMetrics(registry prometheus.Registerer) *LookupServerMetrics {
	m := &LookupServerMetrics{promauto.With(registry).NewCounterVec(prometheus.CounterOpts{
		Name: "ocspsyncd_feed_questions_total", Help: "Questions of sites for single serials, by what became of them.",
	}, []string{"outcome"})}
	for _, outcome := range []string{lookupAnswered, lookupLimited, lookupFailed} {
		m.asked.WithLabelValues(outcome)
	}
	return m
}

func (m *LookupServerMetrics) count(outcome string) {
	m.asked.WithLabelValues(outcome).Inc()
}

// NewAnswer returns the master's answer on a serial.
func NewAnswer(origin string, keySet int64, issuer [32]byte, serial db.Serial, a publisherdb.Asked) feed.Answer {
	answer := feed.Answer{
		Origin: origin, KeySet: keySet, Epoch: a.Epoch, Position: a.Position, Issuer: issuer, Serial: serial, Issued: a.Issued,
		Status: a.Status, AsOf: a.AsOf.UTC().Truncate(time.Microsecond),
	}
	answer.Until = answer.AsOf.Add(feed.AnswerLife)
	if !a.Issued {
		answer.Until = answer.AsOf.Add(feed.AbsentLife)
	}
	return answer
}
