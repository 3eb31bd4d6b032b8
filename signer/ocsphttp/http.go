package ocsphttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"ocspfleet/signer"
	"ocspfleet/signer/wire"
)

const (
	// maxGETLen is the longest request target of a GET, in octets. RFC 9919
	// section 5.1 wants POST beyond 255; 4,096 carry 25 SHA-1 CertIDs.
	maxGETLen = 4 << 10

	requestType  = "application/ocsp-request"
	responseType = "application/ocsp-response"
)

// rootPage is the answer to a GET of "/" by a person.
const rootPage = "This is an OCSP responder (RFC 6960). Ask it with POST, or with GET as in RFC 9919.\n"

// handler serves one Responder.
type handler struct {
	responder *signer.Responder
	rejected  map[int]prometheus.Counter // by status; never changed
	bodies    sync.Pool                  // *[]byte of wire.MaxRequestLen+1
	paths     sync.Pool                  // *pathWork
}

// Handler serves OCSP over HTTP (RFC 9919 sections 5 and 7): GET, HEAD and POST at / and below
// any prefix. Every OCSP request gets HTTP 200, errors too; other requests get 4xx and are
// counted in registry. No middleware may clean the path: its slashes belong to base64.
func Handler(r *signer.Responder, registry prometheus.Registerer) http.Handler {
	h := &handler{responder: r, rejected: make(map[int]prometheus.Counter)}
	rejected := promauto.With(registry).NewCounterVec(prometheus.CounterOpts{
		Name: "ocspd_http_rejected_total", Help: "HTTP requests that are not OCSP, by status code.",
	}, []string{"code"})
	for _, code := range rejections {
		h.rejected[code] = rejected.WithLabelValues(strconv.Itoa(code))
	}
	h.bodies.New = func() any { b := make([]byte, wire.MaxRequestLen+1); return &b }
	h.paths.New = func() any { return new(pathWork) }
	mux := chi.NewRouter()
	mux.Get("/*", h.get)
	mux.Head("/*", h.get)
	mux.Post("/*", h.post)
	mux.MethodNotAllowed(h.wrongMethod)
	mux.NotFound(h.wrongMethod) // "/*" is every path: this is only "OPTIONS *"
	return mux
}

func (h *handler) wrongMethod(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Allow", "GET, HEAD, POST")
	h.reject(w, http.StatusMethodNotAllowed, "want GET, HEAD or POST")
}

func (h *handler) get(w http.ResponseWriter, req *http.Request) {
	if len(req.RequestURI) > maxGETLen {
		h.reject(w, http.StatusRequestURITooLong, "want at most 4096 octets; use POST")
		return
	}
	if strings.Trim(req.URL.Path, "/") == "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, rootPage)
		return
	}
	work := h.paths.Get().(*pathWork)
	defer h.paths.Put(work)
	// Path, not EscapedPath: %2F, %2f and / are equal here, and a plus sign in a path is a plus
	// sign.
	der, ok := decodeGET(req.URL.Path, work)
	if !ok {
		der = nil // malformed, and counted as such
	}
	h.send(w, req, h.responder.Answer(detached(req), der))
}

func (h *handler) post(w http.ResponseWriter, req *http.Request) {
	if isOtherType(req.Header.Get("Content-Type")) {
		h.reject(w, http.StatusUnsupportedMediaType, "want Content-Type "+requestType)
		return
	}
	if req.ContentLength > wire.MaxRequestLen {
		h.tooLarge(w)
		return
	}
	buf := h.bodies.Get().(*[]byte)
	defer h.bodies.Put(buf)
	n, err := readBody(req.Body, *buf)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		h.reject(w, http.StatusRequestTimeout, "the body came too slowly")
	case err != nil:
		w.Header().Set("Connection", "close")
		h.reject(w, http.StatusBadRequest, "the body broke off")
	case n > wire.MaxRequestLen:
		h.tooLarge(w)
	default:
		h.send(w, req, h.responder.Answer(detached(req), (*buf)[:n]))
	}
}

// detached is the request's context without its end: a client that disconnects, or closes its
// sending half, must not spoil the answer that other requests wait for. Config.SignTimeout
// bounds the answer.
func detached(req *http.Request) context.Context { return context.WithoutCancel(req.Context()) }

// readBody reads until the end or until buf is full.
func readBody(body io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := body.Read(buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// isOtherType says whether a Content-Type deliberately names something other than a request.
// RFC 6960 appendix A.1 wants application/ocsp-request, but many clients set nothing (MongoDB's
// driver, okhttp) or their library's default (curl, wget, urllib, java.net.http), and take a
// 415 for a responder that is down. A value that is not a media type names none; parameters are
// ignored.
func isOtherType(value string) bool {
	if value == requestType {
		return false
	}
	kind, _, err := mime.ParseMediaType(value)
	switch kind {
	case requestType, "application/x-www-form-urlencoded", "application/octet-stream", "*/*":
		return false
	}
	return (err == nil || errors.Is(err, mime.ErrInvalidMediaParameter)) && strings.Contains(kind, "/")
}

// tooLarge rejects a body; the rest of it is not read.
func (h *handler) tooLarge(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	h.reject(w, http.StatusRequestEntityTooLarge, "want at most "+strconv.Itoa(wire.MaxRequestLen)+" octets")
}

// rejections are the HTTP statuses for requests that are not OCSP.
var rejections = []int{400, 405, 408, 413, 414, 415}

// reject answers a request that is not OCSP.
func (h *handler) reject(w http.ResponseWriter, code int, why string) {
	h.rejected[code].Inc()
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, why, code)
}

// Header values that never change. net/http only reads them.
var (
	typeValue    = []string{responseType}
	noStoreValue = []string{"no-store"}
	privateValue = []string{"max-age=0, private, no-transform, must-revalidate"}
)

// head holds the header values of an answer that caches may keep. It is made once and
// kept in Answer.Memo.
type head struct {
	etag, lastModified, expires, length, cacheControl []string
	maxAge                                            time.Duration // of cacheControl
}

// headOf returns the header values of an answer.
func headOf(a signer.Answer) *head {
	if a.Memo == nil {
		return newHead(a)
	}
	h, _ := a.Memo.Load().(*head)
	if h == nil {
		h = newHead(a)
		a.Memo.Store(h)
	}
	if h.maxAge != a.MaxAge { // close to its nextUpdate, or the policy has changed
		now := *h
		now.maxAge, now.cacheControl = a.MaxAge, cacheControl(a.MaxAge)
		h = &now
		a.Memo.Store(h)
	}
	return h
}

func newHead(a signer.Answer) *head {
	sum := sha256.Sum256(a.Body)
	return &head{
		etag:         []string{`"` + hex.EncodeToString(sum[:]) + `"`}, // as RFC 9919 section 7.2 recommends
		lastModified: []string{a.ThisUpdate.UTC().Format(http.TimeFormat)},
		expires:      []string{a.NextUpdate.UTC().Format(http.TimeFormat)},
		length:       []string{strconv.Itoa(len(a.Body))},
		cacheControl: cacheControl(a.MaxAge),
		maxAge:       a.MaxAge,
	}
}

// cacheControl is the Cache-Control of RFC 9919 section 7.2.
func cacheControl(maxAge time.Duration) []string {
	return []string{"max-age=" + strconv.FormatInt(int64(maxAge/time.Second), 10) + ", public, no-transform, must-revalidate"}
}

// send writes an answer. net/http sets Date. Unsigned errors must not be stored. An answer with
// a nonce is for one client and one use, but it is authoritative, and RFC 9919 section 7.2
// forbids no-store on those.
func (h *handler) send(w http.ResponseWriter, req *http.Request, a signer.Answer) {
	header := w.Header()
	if !a.Shared {
		header["Content-Type"] = typeValue
		header["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
		header["Cache-Control"] = noStoreValue
		if a.Class.Signed() {
			header["Cache-Control"] = privateValue
		}
		_, _ = w.Write(a.Body) // the client may be gone
		return
	}
	head := headOf(a)
	header["Etag"] = head.etag
	header["Last-Modified"] = head.lastModified // RFC 9919 section 7.2: thisUpdate
	header["Expires"] = head.expires
	header["Cache-Control"] = head.cacheControl
	if req.Method != http.MethodPost && unchanged(req.Header, a, head.etag[0]) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header["Content-Type"] = typeValue
	header["Content-Length"] = head.length
	_, _ = w.Write(a.Body)
}

// unchanged evaluates the preconditions of RFC 9110 section 13.2.2: with If-None-Match,
// If-Modified-Since is ignored.
//
// By date alone only good counts as unchanged: Last-Modified has whole seconds, and of two
// answers with the same thisUpdate the client may have the one before a revocation. One
// needless revoked answer costs 1,500 octets (section 13.1.3 says SHOULD).
func unchanged(h http.Header, a signer.Answer, etag string) bool {
	if match := h["If-None-Match"]; len(match) > 0 {
		return matches(match, etag)
	}
	since := h["If-Modified-Since"]
	if len(since) != 1 || a.Class != signer.Good {
		return false
	}
	date, err := http.ParseTime(since[0])
	return err == nil && !a.ThisUpdate.After(date) // ignore what is not an HTTP-date
}

// matches compares If-None-Match with a strong ETag, by weak comparison (RFC 9110 section
// 13.1.2). Our tags have no comma.
func matches(values []string, etag string) bool {
	for _, value := range values {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
