package logical

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ocspfleet/db"
)

// maybeRecount recounts if it is time to, or if something is wrong. A batch that is just
// being applied moves the numbers before the position: two looks are needed.
func (s *Subscription) maybeRecount(ctx context.Context, local db.Subscription, now time.Time) {
	s.pace.Look(local.SiteSeq - local.Position)
	if s.diverged != "" || !s.pace.Wanted(now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recountLimit)
	defer cancel()
	began := time.Now() // monotonic: this is for the pace, not for the record
	counts, err := s.cfg.Local.Verify(ctx)
	s.pace.Counted(now, time.Since(began))
	s.unread = ""
	if db.Damaged(err) {
		s.diverged, err = err.Error(), nil
	}
	if err != nil {
		s.cfg.Metrics.recounted("failed")
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.unread = err.Error()
			s.cfg.Log.WarnContext(ctx, "recount failed", slog.String("error", err.Error()))
		}
		return
	}
	if s.diverged != "" {
		s.cfg.Metrics.recounted("unequal")
		return
	}
	var wrong []string
	for _, c := range counts {
		if !c.Identical {
			wrong = append(wrong, fmt.Sprintf("%s: %d rows with digest %016x, the head counts %d with %016x",
				c.Table, c.Counted.Count, uint64(c.Counted.Digest), c.Head.Count, uint64(c.Head.Digest)))
		}
	}
	if s.pace.Told(len(wrong) == 0) {
		s.diverged = strings.Join(wrong, "; ")
	}
	result := "equal"
	if len(wrong) > 0 {
		result = "unequal"
	}
	s.cfg.Metrics.recounted(result)
}
