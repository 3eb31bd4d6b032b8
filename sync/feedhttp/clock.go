package feedhttp

import (
	"log/slog"
	"net/http"
	"strconv"

	"ocspfleet/sync/feed"
)

// clock is GET /feed/clock: the master's clock at the time of the answer, one line. A client
// counts half of the round trip as delay, and trusts only the answer of the master's own key.
func (s *Server) clock(w http.ResponseWriter, r *http.Request) {
	now, err := s.cfg.Clock(r.Context())
	if err != nil {
		if r.Context().Err() == nil {
			s.cfg.Log.ErrorContext(r.Context(), "clock cannot be told", slog.String("error", err.Error()))
		}
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	text := feed.Stamp(now) + "\n"
	ExtendWrite(w, 0, len(text))
	h := w.Header()
	h["Date"], h["Content-Type"] = nil, nil
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write([]byte(text)) // a client that leaves early asks again
}
