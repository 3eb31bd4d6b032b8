package logical

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
)

// maybeRecount recounts if it is time to, or if something is wrong. A batch that is just
// being applied moves the numbers before the position: two looks are needed.
func (s *Subscription) maybeRecount(ctx context.Context, local sitedb.Subscription, now time.Time) {
	s.pace.Observe(local.SiteSeq - local.Position)
	if s.diverged != "" || !s.pace.Wanted(now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recountLimit)
	defer cancel()
	s.pace.Counting()
	began := time.Now() // monotonic: this is for the pace, not for the record
	counts, err := s.cfg.Local.Verify(ctx)
	s.pace.Counted(now, time.Since(began))
	s.unread = ""
	result := "equal"
	switch wrong := db.Differences(counts); {
	case tables.Damaged(err):
		s.diverged, result = err.Error(), "unequal"
	case err != nil:
		result = "failed"
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) { // else it is the stop
			s.unread = err.Error()
			s.cfg.Log.WarnContext(ctx, "recount failed", slog.String("error", err.Error()))
		}
	default:
		if wrong != "" {
			result = "unequal"
		}
		if s.pace.Compared(wrong == "") {
			s.diverged = wrong
		}
	}
	s.cfg.Metrics.recounted(result)
}
