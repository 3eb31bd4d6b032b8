package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// ForkReport is what a site hands to the master: two statements that contradict each
// other, as they were signed.
type ForkReport struct {
	Why          string
	Ours, Theirs []byte
}

// maxReport bounds a report.
const maxReport = 2*MaxNote + 512

var errReport = formError("the report of a fork is not of the form")

// Marshal writes SEQUENCE { why UTF8String, ours UTF8String, theirs UTF8String }.
func (r ForkReport) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, part := range [][]byte{[]byte(r.Why), r.Ours, r.Theirs} {
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(part) })
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing the report of a fork: %w", err)
	}
	return der, nil
}

// ParseForkReport reads it.
func ParseForkReport(der []byte) (ForkReport, error) {
	in, body := cryptobyte.String(der), cryptobyte.String(nil)
	var why, ours, theirs cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() || !body.ReadASN1(&why, asn1.UTF8String) || !body.ReadASN1(&ours, asn1.UTF8String) ||
		!body.ReadASN1(&theirs, asn1.UTF8String) || !body.Empty() || len(why) > 200 || len(ours) > MaxNote || len(theirs) > MaxNote {
		return ForkReport{}, errReport
	}
	return ForkReport{string(why), ours, theirs}, nil
}

// What the master answers to a report.
const (
	forkOpen    = "open\n"
	forkSettled = "settled\n"
)

// fork is POST /feed/fork, at the master alone. The site is known by its TLS key.
func (s *Server) fork(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	pin, _ := peerPin(r.TLS)
	site, known := "", false
	if s.cfg.Access != nil {
		site, known = s.cfg.Access.Site(pin)
	}
	if !known {
		http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(answerTime)) // a reader without deadlines is a test's
	der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReport))
	var report ForkReport
	if err == nil {
		report, err = ParseForkReport(der)
	}
	if err != nil {
		http.Error(w, "a report has a reason and two notes", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	settled, err := s.cfg.Forks.report(ctx, site, report)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "report of a fork cannot be kept", slog.String("site", site), slog.String("error", err.Error()))
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	answer := forkOpen
	if settled {
		answer = forkSettled
	}
	s.limit(w, 0, len(answer))
	_, _ = io.WriteString(w, answer) // a client that leaves early reports again
}

// Report hands evidence of a fork to the master, and returns whether that has settled
// it. It is db.ErrNotFound where the source takes none.
func (c *Client) Report(ctx context.Context, r ForkReport) (settled bool, err error) {
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
