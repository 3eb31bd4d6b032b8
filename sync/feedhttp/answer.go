package feedhttp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// file is the body of an answer.
type file struct {
	body  []byte
	text  bool // a note, not DER
	fixed bool // it never changes
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, f file, err error) {
	switch {
	case errors.Is(err, db.ErrNotFound):
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, http.StatusText(http.StatusNotFound), http.StatusNotFound)
		return
	case err != nil && (r.Context().Err() != nil || errors.Is(err, context.Canceled)):
		return // the client left
	case err != nil:
		s.cfg.Log.ErrorContext(r.Context(), "feed file cannot be read", slog.String("path", r.URL.Path), slog.String("error", err.Error()))
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	ExtendWrite(w, 0, len(f.body))
	h := w.Header()
	h["Date"] = nil // not needed: every time in the feed is signed
	tag := etag(f.body)
	h.Set("ETag", tag)
	f.fixed = f.fixed && r.URL.RawQuery != "" // without the epoch the address may mean another file later
	h.Set("Cache-Control", s.caching(f))
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	if f.text {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	h.Set("Content-Length", strconv.Itoa(len(f.body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(f.body) // a client that leaves early asks again
	}
}

func (s *Server) caching(f file) string {
	switch {
	case !f.fixed:
		return "no-cache"
	case s.cfg.Public:
		return fmt.Sprintf("public, max-age=%d, immutable", forever)
	}
	return fmt.Sprintf("private, max-age=%d, immutable", forever)
}

// ExtendWrite sets the deadline of an answer, so that one that is not read ends.
func ExtendWrite(w http.ResponseWriter, wait time.Duration, octets int) {
	until := time.Now().Add(wait + answerTime + time.Duration(octets/slowest)*time.Second)
	_ = http.NewResponseController(w).SetWriteDeadline(until) // only a test's writer has no deadlines
}

// etag returns the ETag of an answer's bytes.
func etag(b []byte) string {
	h := feed.HashOf(b)
	return `"` + hex.EncodeToString(h[:8]) + `"`
}
