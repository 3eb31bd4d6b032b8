package feedhttp

import (
	"log/slog"
	"net/http"
	"strconv"

	"ocspfleet/sync/feed"
)

// clock is GET /feed/clock: the master's clock as it answers, one line. Who asks takes
// the half of the round trip for the way, and believes the master's own key alone.
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
