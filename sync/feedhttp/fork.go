package feedhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

// The master's answers to a report.
const (
	forkOpen    = "open\n"
	forkSettled = "settled\n"
)

// ForkReporter accepts the evidence of a contradiction that a site has found, and says whether
// it was settled before.
type ForkReporter interface {
	Report(ctx context.Context, site string, r feed.ForkReport) (settled bool, err error)
}

// fork is POST /feed/fork, only at the master. The TLS key identifies the site.
func (s *Server) fork(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	pin, _ := PeerPin(r.TLS)
	site, known := "", false
	if s.cfg.Access != nil {
		site, known = s.cfg.Access.Site(pin)
	}
	if !known {
		http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(answerTime)) // only a test's reader has no deadlines
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, feed.MaxReport))
	var report feed.ForkReport
	if err == nil {
		report, err = feed.ParseForkReport(der)
	}
	if err != nil {
		http.Error(w, "a report has a reason and two notes", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), CallTimeout)
	defer cancel()
	settled, err := s.cfg.Forks.Report(ctx, site, report)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "report of a fork cannot be kept", slog.String("site", site), slog.String("error", err.Error()))
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	answer := forkOpen
	if settled {
		answer = forkSettled
	}
	ExtendWrite(w, 0, len(answer))
	_, _ = io.WriteString(w, answer) // a client that leaves early reports again
}

// Report sends evidence of a fork to the master, and returns whether the master has settled it.
// It returns db.ErrNotFound if the source accepts no reports.
func (c *Client) Report(ctx context.Context, r feed.ForkReport) (settled bool, err error) {
	der, err := r.Marshal()
	if err != nil {
		return false, err
	}
	body, _, err := c.do(ctx, http.MethodPost, "/feed/fork", "", der, 64, 0)
	switch {
	case err != nil:
		return false, err
	case string(body) == forkSettled:
		return true, nil
	case string(body) == forkOpen:
		return false, nil
	}
	return false, fmt.Errorf("reporting a fork to %s: %w", c, errors.Join(ErrSource, db.ErrNotFound))
}
