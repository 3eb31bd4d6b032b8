package feedhttp

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/sync/feed"

	"github.com/go-chi/chi/v5"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/singleflight"
)

// ServerConfig is the data to serve and the clients that may fetch it.
type ServerConfig struct {
	// Store holds the files: the master's signed ones, or those that a site verified.
	Store *tables.DB
	// Root verifies the key set that is served: the one in force, whatever else is stored. Nil:
	// the highest one stored, in tests.
	Root note.Verifier
	// Latest has the newest checkpoint.
	Latest *Latest
	// Access says which sites may fetch, by pin. Nil: any client may, behind a proxy that
	// distributes a public feed.
	Access *AccessList
	// Lookup answers questions for one serial; nil: none are answered here.
	Lookup http.Handler
	// Forks accepts the evidence of contradictions that sites found; nil: this is not the
	// master.
	Forks ForkReporter
	// Check refuses a segment that does not match its seal, if the store's content was not
	// verified on arrival; nil: it was verified. db.ErrNotFound: the segment counts as missing.
	Check func(epoch, number int64, s feed.Sealed) error
	// Clock is the master's, with which sites compare their own; nil: this is not the master.
	Clock func(context.Context) (time.Time, error)
	// Public allows shared caches (a CDN) to keep segments and snapshots.
	Public bool
	// Log receives read errors.
	Log *slog.Logger
}

// Bounds of a request.
const (
	// maxWait is the longest poll: longer than the minute after which an idle head is
	// confirmed, so that most polls return something.
	maxWait = 90 * time.Second
	// maxPerClient is how many requests of one client are in progress at a time.
	maxPerClient = 8
	// maxPerCache is the same for a client of a public feed, behind which many sites may wait
	// for news.
	maxPerCache = 512
	// slowest is the slowest client that is served, in octets a second (64 kbit/s).
	slowest = 8_000
	// answerTime is the time for an answer, besides that for its octets.
	answerTime = 15 * time.Second
	// forever is the max-age of immutable files, in seconds: a year.
	forever = 365 * 86400
)

// Server serves the feed; it is an http.Handler.
type Server struct {
	cfg    ServerConfig
	router http.Handler

	packing singleflight.Group       // of news
	kept    atomic.Pointer[keptNews] // nil: none yet

	mu   sync.Mutex // guards busy
	busy map[Pin]int
}

// NewServer makes the handler of /feed/...
func NewServer(cfg ServerConfig) *Server {
	s := &Server{cfg: cfg, busy: map[Pin]int{}}
	r := chi.NewRouter()
	if cfg.Lookup != nil {
		r.Method(http.MethodGet, "/feed/ask", cfg.Lookup)
	}
	if cfg.Forks != nil {
		r.Post("/feed/fork", s.fork)
	}
	if cfg.Clock != nil {
		r.Get("/feed/clock", s.clock)
	}
	for path, handle := range map[string]http.HandlerFunc{
		"/feed/keys": s.keys, "/feed/checkpoint": s.checkpoint, "/feed/news": s.news, "/feed/segment/{number}": s.segment,
		"/feed/snapshot": s.newestSnapshot, "/feed/snapshot/{position}/{tag}": s.snapshot, "/feed/snapshot/{position}/{tag}/{chunk}": s.chunk,
	} {
		r.Get(path, handle)
		r.Head(path, handle)
	}
	s.router = r
	return s
}

// HTTP returns the server for a listener, with its limits; the caller sets TLS.
func (s *Server) HTTP() *http.Server {
	// No ReadTimeout: it would end long polls. Requests have no body.
	return &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && (s.cfg.Forks == nil || r.Method != http.MethodPost || r.URL.Path != "/feed/fork") {
		w.Header().Set("Connection", "close")
		http.Error(w, "a request for the feed has no body", http.StatusBadRequest)
		return
	}
	leave, code := s.enter(r)
	if code != 0 {
		if code == http.StatusForbidden {
			s.refuse(w, r)
		} else {
			http.Error(w, http.StatusText(code), code)
		}
		return
	}
	defer leave()
	s.router.ServeHTTP(w, r)
}

// enter admits a request, or returns the status code of the refusal.
func (s *Server) enter(r *http.Request) (leave func(), code int) {
	if !s.admits(r) {
		return nil, http.StatusForbidden
	}
	if s.cfg.Access == nil {
		return func() {}, 0 // the proxy in front bounds its clients
	}
	pin, _ := PeerPin(r.TLS)
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := maxPerClient
	if s.cfg.Public {
		limit = maxPerCache
	}
	if s.busy[pin] >= limit {
		return nil, http.StatusTooManyRequests
	}
	s.busy[pin]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.busy[pin]--; s.busy[pin] == 0 {
			delete(s.busy, pin)
		}
	}, 0
}

// admits checks the pin again: a site that was removed from the list while its connection was
// open gets nothing more.
func (s *Server) admits(r *http.Request) bool {
	if s.cfg.Access == nil {
		return true
	}
	pin, proven := PeerPin(r.TLS)
	return proven && s.cfg.Access.Admits(pin)
}

// refuse answers 403; only a denied site gets the reason. The handshake has proven that the key
// is the site's.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request) {
	text := http.StatusText(http.StatusForbidden)
	if pin, proven := PeerPin(r.TLS); proven {
		if state, denied := s.cfg.Access.Denied(pin); denied {
			text = string(state)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, http.StatusForbidden)
}

// await waits for the newest checkpoint, at most as long as the client may wait here.
func (s *Server) await(r *http.Request, wait time.Duration, enough func(db.FeedNote) bool) db.FeedNote {
	ctx := r.Context()
	if s.cfg.Access != nil {
		pin, _ := PeerPin(r.TLS)
		var leave func()
		ctx, leave = s.cfg.Access.poll(ctx, pin)
		defer leave()
	}
	return s.cfg.Latest.Wait(ctx, wait, enough)
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	var signed []byte
	var err error
	if s.cfg.Root == nil {
		_, signed, err = s.cfg.Store.FeedKeys(r.Context())
	} else {
		_, signed, err = feed.StoredKeySet(r.Context(), s.cfg.Store, s.cfg.Root.Name(), s.cfg.Root)
	}
	s.answer(w, r, file{body: signed, text: true}, err)
}

// checkpoint is a long poll: with after=P it waits for a position beyond P, with
// If-None-Match for another checkpoint than that one, whichever comes first.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	after, wait, ok := s.poll(w, r)
	if !ok {
		return
	}
	seen := r.Header.Get("If-None-Match")
	note := s.await(r, wait, func(n db.FeedNote) bool {
		return n.Position > after || seen != "" && etag(n.Note) != seen
	})
	if !s.admits(r) { // the list may have changed meanwhile
		s.refuse(w, r)
		return
	}
	var err error
	if note.Note == nil {
		err = db.ErrNotFound
	}
	s.answer(w, r, file{body: note.Note, text: true}, err)
}

// poll reads the parameters of a long poll, and extends the deadline of its answer.
func (s *Server) poll(w http.ResponseWriter, r *http.Request) (after int64, wait time.Duration, ok bool) {
	query := r.URL.Query()
	after = -1
	var err error
	if text := query.Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			http.Error(w, "after wants a position", http.StatusBadRequest)
			return 0, 0, false
		}
	}
	if text := query.Get("wait"); text != "" {
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 || wait > maxWait {
			http.Error(w, fmt.Sprintf("wait wants a time up to %v", maxWait), http.StatusBadRequest)
			return 0, 0, false
		}
	}
	ExtendWrite(w, wait, 0)
	return after, wait, true
}

func (s *Server) segment(w http.ResponseWriter, r *http.Request) {
	epoch, n, ok := s.place(w, r, "number")
	if !ok {
		return
	}
	sealed, err := s.sealed(r.Context(), epoch, n[0])
	var body []byte
	if err == nil {
		body, err = sealed.Marshal()
	}
	s.answer(w, r, file{body: body, fixed: true}, err)
}

// sealed reads a segment that may be served.
func (s *Server) sealed(ctx context.Context, epoch, number int64) (feed.Sealed, error) {
	stored, err := s.cfg.Store.FeedSegment(ctx, epoch, number)
	if err != nil {
		return feed.Sealed{}, err
	}
	sealed := feed.Sealed{Note: stored.Note, Body: stored.Body}
	if s.cfg.Check != nil {
		err = s.cfg.Check(epoch, number, sealed)
	}
	return sealed, err
}

func (s *Server) newestSnapshot(w http.ResponseWriter, r *http.Request) {
	epoch, _, ok := s.place(w, r)
	if !ok {
		return
	}
	stored, err := s.cfg.Store.NewestSnapshot(r.Context(), epoch)
	s.answer(w, r, file{body: stored.Note, text: true}, err)
}

func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	epoch, n, ok := s.place(w, r, "position")
	if !ok {
		return
	}
	stored, err := s.cfg.Store.FeedSnapshot(r.Context(), epoch, n[0], chi.URLParam(r, "tag"))
	s.answer(w, r, file{body: stored.Note, text: true, fixed: true}, err)
}

func (s *Server) chunk(w http.ResponseWriter, r *http.Request) {
	epoch, n, ok := s.place(w, r, "position", "chunk")
	if !ok {
		return
	}
	body, err := s.cfg.Store.FeedChunk(r.Context(), epoch, n[0], chi.URLParam(r, "tag"), int(min(n[1], math.MaxInt32)))
	s.answer(w, r, file{body: body, fixed: true}, err)
}

// place reads the epoch and the named numbers of the path. The epoch is in the query, so that
// no cache mixes up files of two epochs; without it the epoch is that of the newest checkpoint.
func (s *Server) place(w http.ResponseWriter, r *http.Request, names ...string) (epoch int64, numbers []int64, ok bool) {
	epoch, ok = s.cfg.Latest.Newest().Epoch, true
	if r.URL.RawQuery != "" {
		text, found := strings.CutPrefix(r.URL.RawQuery, "epoch=")
		epoch, ok = decimal(text)
		ok = ok && found
	}
	for _, name := range names {
		n, good := decimal(chi.URLParam(r, name))
		numbers, ok = append(numbers, n), ok && good
	}
	if !ok {
		http.Error(w, http.StatusText(http.StatusNotFound), http.StatusNotFound)
	}
	return epoch, numbers, ok
}

// decimal reads a number in the one form that caches need, without sign or
// leading zeros.
func decimal(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == text
}

// CallTimeout bounds one step at the master's database, which is near.
const CallTimeout = 30 * time.Second
