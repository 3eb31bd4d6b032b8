package pull

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/lookup"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/mod/sumdb/note"
)

// LookupProxyConfig says which sources to ask for a serial that the copy does not have.
type LookupProxyConfig struct {
	// Store is the site's database: it has the newest key set.
	Store *sitedb.DB
	// Origin is the name of the feed; Root is its root's key. Both are pinned.
	Origin string
	Root   note.Verifier
	// Sources are asked in this order: those that are the master, then two random peers, which ask
	// their master.
	Sources []*feedhttp.Client
	// Metrics may be nil.
	Metrics *LookupProxyMetrics
	Log     *slog.Logger
	// Now is the site's clock. Default time.Now.
	Now func() time.Time
}

// Limits for questions.
const (
	// askTimeout bounds one question to the sources: ocspd waits feed.AskTimeout.
	askTimeout = 800 * time.Millisecond
	// askRate and askBurst limit the outgoing questions to half of what the master's lookup server
	// allows, so that a flood of serials ends here.
	askRate, askBurst = 10, 20
	// maxAbroad is how many questions may wait at the sources at once: half of what one client may
	// have there, so that news still come.
	maxAbroad = 4
	// rememberFor is how long an answer is repeated: a revocation right after it is not seen for
	// this long at most.
	rememberFor = 10 * time.Second
	// silentFor is the pause after no source answered.
	silentFor = time.Second
	// askNext is how long the proxy waits for a source before it also asks the next one.
	askNext = 250 * time.Millisecond
	// askPeers is how many peers are asked when the master does not answer.
	askPeers = 2
	// The limits for peers' questions: together with the site's own questions they stay within what
	// the master allows one site, and take nothing of the site's own share.
	relayRate, relayBurst, maxRelayed = 5, 10, 2
	// maxRemembered bounds the memory: 4,096 answers are 4 MB.
	maxRemembered = 4096
)

// LookupProxy asks the feed's sources for single serials, for this site's ocspd, which verifies the
// answers itself. It stores nothing. It is an http.Handler for GET
// /ask?issuer=HEX&serial=HEX&position=P on a socket of this machine.
type LookupProxy struct {
	cfg    LookupProxyConfig
	slots  chan struct{}
	relays chan struct{} // slots of peers' questions

	mu         sync.Mutex // guards the fields below
	remembered map[string]memory
	bucket     *lookup.Bucket
	silent     time.Time // no source is asked before this time
	fault      Fault     // the last one logged

	relayBucket *lookup.Bucket
	relaySilent time.Time // no master is asked for a peer before this time
}

// memory is one answer, and how long it is repeated.
type memory struct {
	reply    []byte
	issued   bool
	position int64
	until    time.Time
}

// NewLookupProxy sets the defaults.
func NewLookupProxy(cfg LookupProxyConfig) *LookupProxy {
	if cfg.Metrics == nil {
		cfg.Metrics = NewLookupProxyMetrics(nil)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &LookupProxy{
		cfg: cfg, slots: make(chan struct{}, maxAbroad), remembered: map[string]memory{}, bucket: lookup.NewBucket(askRate, askBurst),
		relays: make(chan struct{}, maxRelayed), relayBucket: lookup.NewBucket(relayRate, relayBurst),
	}
}

func (a *LookupProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	issuer, err := hex.DecodeString(query.Get("issuer"))
	serial, err2 := hex.DecodeString(query.Get("serial"))
	position, err3 := strconv.ParseInt(query.Get("position"), 10, 64)
	if r.Method != http.MethodGet || r.URL.Path != "/ask" || errors.Join(err, err2, err3) != nil || len(issuer) != 32 || db.Serial(serial).Check() != nil {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	reply, outcome := a.ask(ctx, [32]byte(issuer), serial, position)
	a.cfg.Metrics.asked.WithLabelValues(outcome).Inc()
	switch outcome {
	case lookupFetched, lookupRemembered:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(reply) // ocspd may have given up
	case lookupShed:
		http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
	default:
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
	}
}

// ask returns an answer from memory, or fetches one from a source.
func (a *LookupProxy) ask(ctx context.Context, issuer [32]byte, serial db.Serial, position int64) (reply []byte, outcome string) {
	key := string(issuer[:]) + string(serial)
	reply, outcome = a.recall(key, position)
	if outcome != lookupFetched {
		return reply, outcome
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return nil, lookupShed
	}
	answer, reply, err := a.fetch(ctx, a.inOrder(), issuer, serial)
	a.note(ctx, key, answer, reply, err)
	if err != nil {
		return nil, lookupUnanswered
	}
	return reply, lookupFetched
}

// recall returns the remembered answer; lookupFetched means that a source may be asked now.
func (a *LookupProxy) recall(key string, position int64) (reply []byte, outcome string) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	m, found := a.remembered[key]
	switch {
	// "There is a certificate" helps only a copy that is behind.
	case found && now.Before(m.until) && (!m.issued || m.position > position):
		return m.reply, lookupRemembered
	case now.Before(a.silent):
		return nil, lookupUnanswered
	case !a.bucket.Take(now):
		return nil, lookupShed
	}
	return nil, lookupFetched
}

// note remembers the result of a question to the sources.
func (a *LookupProxy) note(ctx context.Context, key string, answer *feed.Answer, reply []byte, err error) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.silent = now.Add(silentFor)
		if fault := FaultOf(err); fault != a.fault { // not the error, which names the serial
			a.fault = fault
			a.cfg.Log.WarnContext(ctx, "no source answers for single serials", slog.String("fault", string(fault)))
		}
		return
	}
	a.fault = ""
	if len(a.remembered) >= maxRemembered {
		for k, m := range a.remembered {
			if !now.Before(m.until) {
				delete(a.remembered, k)
			}
		}
	}
	if len(a.remembered) >= maxRemembered {
		clear(a.remembered)
	}
	until := now.Add(rememberFor)
	if answer.Until.Before(until) {
		until = answer.Until
	}
	a.remembered[key] = memory{reply, answer.Issued, answer.Position, until}
}

// LookupProxyMetrics counts questions.
type LookupProxyMetrics struct{ asked *prometheus.CounterVec }

// The outcomes of a question.
const (
	lookupFetched    = "fetched"
	lookupRemembered = "remembered"
	lookupShed       = "shed" // too many questions
	lookupUnanswered = "unanswered"
)

// NewLookupProxyMetrics registers ocspsyncd_ask_questions_total{outcome}: ocspd's questions for
// serials that the copy does not have, by their outcome; nil registers none.
func NewLookupProxyMetrics(registry prometheus.Registerer) *LookupProxyMetrics {
	m := &LookupProxyMetrics{promauto.With(registry).NewCounterVec(prometheus.CounterOpts{
		Name: "ocspsyncd_ask_questions_total", Help: "Questions of ocspd for serials that the copy does not have, by what became of them.",
	}, []string{"outcome"})}
	for _, outcome := range []string{lookupFetched, lookupRemembered, lookupShed, lookupUnanswered} {
		m.asked.WithLabelValues(outcome)
	}
	return m
}
