package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/signer/wire"
)

// Source is the copy of certificate status at this site.
type Source interface {
	// Issuers and ResponderCertificates return the current snapshot, which is never modified: a
	// change makes another slice.
	Issuers() []db.Issuer
	ResponderCertificates() []db.ResponderCertificate
	// Horizon is up to when the copy is complete; zero before it was first filled.
	Horizon() db.Horizon
	// Lookup returns db.ErrNotIssued when the issuer never issued the serial. Any other error
	// means that the copy could not be read; it is logged, so it does not name the serial.
	// Without such an error the Horizon is valid: the status is at least as new. The serial is
	// not kept after the call. Safe for concurrent use.
	Lookup(ctx context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, db.Horizon, error)
}

// Keyring finds the key of a certificate in the token. A signature by the returned signer must
// end by itself, within about Config.SignTimeout, also when the token hangs. Safe for
// concurrent use, the signers too.
type Keyring interface {
	Signer(pub crypto.PublicKey) (crypto.Signer, error)
}

// Config configures a Responder. Only Pins is needed.
type Config struct {
	// Pins are the issuers that this site answers for; at least one.
	Pins []Pin
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// CacheBytes bounds the cache of signatures, in octets. Default 64 MiB, room
	// for about 35,000 answers of 1,300 octets. Below zero: no cache.
	CacheBytes int64
	// SignTimeout is how long an answer waits for its signature before it is
	// tryLater. Default 2 s; must be shorter than the HTTP server's WriteTimeout.
	SignTimeout time.Duration
	// MaxSigning is how many signatures may be in progress, including those waiting in the
	// token's own queue; beyond it answers are tryLater at once. It bounds what a hung token
	// can hold. Default 1024: at 50 us a signature (P-256, SoftHSM) the last of them waits 50
	// ms.
	MaxSigning int
	// Lookup is asked for serials that the copy says were never issued. Default nil: no lookup.
	Lookup Lookup
	// Logger receives changes of state, never a client's address or a serial. Default
	// discards.
	Logger *slog.Logger
	// Metrics counts answers. Nil: none.
	Metrics *Metrics
}

// Responder answers OCSP requests for the pinned issuers. It starts goroutines only in Run and,
// for the time of a signature, in Answer.
type Responder struct {
	source      Source
	keys        Keyring
	lookup      Lookup // nil: no lookups
	now         func() time.Time
	log         *slog.Logger
	metrics     *Metrics
	signTimeout time.Duration

	site   atomic.Pointer[site] // replaced whole by refresh
	cache  *cache
	slots  chan struct{} // one token per signature in progress
	work   sync.Pool     // *work
	wake   chan struct{} // asks Run for a refresh
	doubt  atomic.Bool   // the copy was in doubt when last seen
	banned sync.Map      // SHA-256 of SubjectPublicKeyInfo of compromised keys; only grows

	troubles [troubleKinds]throttle

	refreshMu sync.Mutex // serializes refreshes; owns pins and roster
	pins      []pinned
	certs     *responderCerts
}

// work is the memory of one Answer, reused by later ones.
type work struct {
	req       wire.Request
	key       []byte
	responses []wire.SingleResponse
	extended  bool      // some serial is revoked because it was never issued
	askBy     time.Time // when the lookups for this request end; zero: there was none
}

// Answer is the answer to the client. Body and all it refers to are shared: they must not be
// changed.
type Answer struct {
	Body  []byte // a whole OCSPResponse
	Class Class  // for several CertIDs the most serious: revoked, unknown, good
	// The rest is set when the class is signed. For several CertIDs the times are the earliest
	// ones.
	ThisUpdate, NextUpdate time.Time
	MaxAge                 time.Duration // for HTTP caches, whole seconds
	Shared                 bool          // shared caches may keep it: no nonce
	// Memo is where an HTTP handler keeps what it computed from a cached answer; nil when the
	// answer is not in the cache.
	Memo *atomic.Value
}

// New returns a Responder with no identity yet: call Refresh or Run.
func New(cfg Config, source Source, keys Keyring) (*Responder, error) {
	if len(cfg.Pins) == 0 {
		return nil, errors.New("starting the responder: no issuer is pinned")
	}
	r := &Responder{
		source: source, keys: keys, lookup: cfg.Lookup, now: cfg.Now, log: cfg.Logger, metrics: cfg.Metrics,
		signTimeout: cfg.SignTimeout, wake: make(chan struct{}, 1),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.metrics == nil {
		r.metrics = NewMetrics(nil)
	}
	if r.signTimeout <= 0 {
		r.signTimeout = 2 * time.Second
	}
	if cfg.CacheBytes == 0 {
		cfg.CacheBytes = 64 << 20
	}
	if cfg.MaxSigning <= 0 {
		cfg.MaxSigning = 1024
	}
	r.cache = newCache(max(0, cfg.CacheBytes))
	r.slots = make(chan struct{}, cfg.MaxSigning)
	r.work.New = func() any { return new(work) }
	empty := &site{}
	seen := make(map[string]bool)
	for _, pin := range cfg.Pins {
		p := pinned{Pin: pin}
		if pin.Certificate != nil {
			a, err := newAuthority(pin.Certificate)
			if err != nil {
				return nil, fmt.Errorf("starting the responder: pinning %s: %w", pin, err)
			}
			p.authority = a
		}
		if seen[pin.String()] {
			return nil, fmt.Errorf("starting the responder: %s is pinned twice", pin)
		}
		seen[pin.String()] = true
		r.pins = append(r.pins, p)
		empty.served = append(empty.served, &served{name: pin.String()})
	}
	r.site.Store(empty)
	r.metrics.bind(r)
	return r, nil
}

// Answer makes the answer to one request, in DER. It always returns one. The request is not
// kept. Answer waits for the token for at most SignTimeout; when ctx ends first the answer is
// tryLater, and the signature continues for other requests that wait for it.
func (r *Responder) Answer(ctx context.Context, request []byte) (answer Answer) {
	defer func() {
		if p := recover(); p != nil {
			answer = r.panicked(ctx, p)
		}
		r.metrics.responses[answer.Class].Inc()
	}()
	w := r.work.Get().(*work)
	defer r.work.Put(w)
	w.askBy = time.Time{}

	// Parse the request.
	if err := wire.ParseRequestInto(request, &w.req); err != nil {
		return failed(Malformed)
	}

	// Find the issuer. All CertIDs must belong to one issuer that is served.
	var issuer *served
	if issuer, w.key = r.site.Load().resolve(w.req.CertIDs, w.key); issuer == nil {
		return failed(Unauthorized)
	}
	now := r.now().UTC().Truncate(time.Second) // the precision of GeneralizedTime
	id := issuer.signer(w.req.PreferredSigAlgs, now)
	if id == nil {
		return failed(Unauthorized)
	}

	// Look up the status and decide. One error is the whole answer.
	var f copyStatus
	var d decision
	for i := range w.req.CertIDs {
		status, horizon, err := r.source.Lookup(ctx, issuer.id, db.Serial(w.req.CertIDs[i].Serial))
		if err != nil && !errors.Is(err, db.ErrNotIssued) {
			r.trouble(ctx, troubleSource, "copy could not be asked", err)
			return failed(TryLater)
		}
		f = copyStatus{issued: err == nil, status: status, horizon: horizon}
		r.noteDoubt(ctx, horizon)
		signerEnd := time.Time{}
		if may, err := r.confirm(ctx, id, horizon, now); err != nil {
			r.trouble(ctx, troubleSource, "copy could not be asked", err)
			return failed(TryLater)
		} else if may {
			signerEnd = id.end
		}
		d = decide(issuer.policy, f, signerEnd, now)
		if r.mayAsk(issuer, f, d, signerEnd, now) {
			d = r.askMaster(ctx, w, issuer, db.Serial(w.req.CertIDs[i].Serial), f.horizon, d, signerEnd, now)
		}
		if d.badHold {
			r.trouble(ctx, troubleHold, "a certificate of a br issuer is on hold", nil)
		}
		if !d.class.Signed() {
			return failed(d.class)
		}
		answer.add(w, &w.req.CertIDs[i], d, i == 0)
	}

	// Look for a cached signature. A nonce or several CertIDs make an answer unique.
	nonce := echoed(issuer.policy.Profile, w.req.Nonce)
	w.key = w.key[:0]
	var hash uint64
	var cached *entry
	if nonce == nil && !d.lookedUp && len(w.req.CertIDs) == 1 && len(w.req.CertIDs[0].Raw) <= maxCachedCertID {
		w.key = appendContent(w.key, w.req.CertIDs[0].Raw, d, f, issuer.policy, id)
		hash = r.cache.hash(w.key)
		if cached = r.cache.get(hash, w.key); cached != nil && cached.fits(d, now) {
			r.metrics.cacheHits.Inc()
			return cached.answer(d, now)
		}
		r.metrics.cacheMisses.Inc()
	}

	// Sign, or wait for the call that signs.
	tbs := wire.ResponseData{
		ResponderKeyHash: id.keyHash, ProducedAt: now, Responses: w.responses,
		Nonce: nonce, ExtendedRevoke: w.extended,
	}.Marshal()
	current, leader := &call{done: make(chan struct{})}, true
	if len(w.key) > 0 {
		var done *entry
		if current, leader, done = r.cache.begin(hash, w.key, d, now); done != nil {
			return done.answer(d, now)
		}
	}
	if leader {
		r.start(ctx, current, id, tbs, &entry{
			class: answer.Class, producedAt: now, thisUpdate: answer.ThisUpdate, nextUpdate: answer.NextUpdate,
		})
	}
	if err := r.wait(ctx, current); err != nil {
		if errors.Is(err, errPanicked) {
			return failed(InternalError)
		}
		r.metrics.signFailures.Inc()
		r.trouble(ctx, troubleSign, "answer could not be signed", err)
		if cached != nil && cached.stillFits(d, now) {
			return cached.answer(d, now)
		}
		return failed(TryLater)
	}
	if current.key != nil {
		return current.entry.answer(d, now)
	}
	answer.Body, answer.Shared = current.entry.body, nonce == nil
	return answer
}

// add adds the decision about one CertID to the answer.
func (a *Answer) add(w *work, id *wire.CertID, d decision, first bool) {
	if first {
		w.responses, w.extended = w.responses[:0], false
		*a = Answer{Class: d.class, ThisUpdate: d.thisUpdate, NextUpdate: d.nextUpdate, MaxAge: d.maxAge}
	}
	w.responses = append(w.responses, wire.SingleResponse{
		CertID: id.Raw, Status: d.class.status(), RevokedAt: d.revokedAt, Reason: int(d.reason),
		ThisUpdate: d.thisUpdate, NextUpdate: d.nextUpdate, ArchiveCutoff: d.cutoff,
	})
	w.extended = w.extended || d.extended
	a.ThisUpdate = earlier(a.ThisUpdate, d.thisUpdate)
	a.NextUpdate = earlier(a.NextUpdate, d.nextUpdate)
	a.MaxAge = min(a.MaxAge, d.maxAge)
	if d.class == Revoked || (d.class == Unknown && a.Class == Good) {
		a.Class = d.class
	}
}

// answer returns the entry as the answer for the decision d.
func (e *entry) answer(d decision, now time.Time) Answer {
	return Answer{
		Body: e.body, Class: e.class, ThisUpdate: e.thisUpdate, NextUpdate: e.nextUpdate,
		MaxAge: maxAge(d.maxAge, e.nextUpdate, now), Shared: true, Memo: &e.memo,
	}
}

// failed returns an answer without a signature.
func failed(class Class) Answer {
	status := wire.InternalError
	switch class {
	case Malformed:
		status = wire.MalformedRequest
	case Unauthorized:
		status = wire.Unauthorized
	case TryLater:
		status = wire.TryLater
	}
	return Answer{Body: wire.ErrorResponse(status), Class: class}
}

// maxNonceBR is the longest nonce that the BR, which still name RFC 8954, allow in an answer. A
// request with a longer one is answered without nonce (RFC 9654 allows that).
const maxNonceBR = 32

// echoed returns the nonce for the answer, or nil.
func echoed(profile db.Profile, nonce []byte) []byte {
	if profile == db.ProfileBR && len(nonce) > maxNonceBR {
		return nil
	}
	return nonce
}

// panicked returns the answer after a panic in our code. The process goes on with the next
// request.
func (r *Responder) panicked(ctx context.Context, p any) Answer {
	r.metrics.panics.Inc()
	r.trouble(ctx, troublePanic, "answering panicked", fmt.Errorf("%v at %s", p, debug.Stack()))
	return failed(InternalError)
}
