package logical

import (
	"context"
	"time"

	"ocspfleet/db/sitedb"
)

// maybeRecount recounts if it is time to, or if something is wrong. During a batch the numbers
// change before the position does: two readings are needed.
func (s *Subscription) maybeRecount(ctx context.Context, local sitedb.Subscription, now time.Time) {
	s.counter.Observe(local.SiteSeq - local.Position)
	if s.diverged != "" || !s.counter.Wanted(now) {
		return
	}
	found := s.counter.Count(ctx, now)
	s.diverged, s.unread = found.Differs, found.Unread
	s.cfg.Metrics.recounts.WithLabelValues(string(found.Result)).Inc()
}
