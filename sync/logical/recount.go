package logical

import (
	"context"
	"time"

	"ocspfleet/db/sitedb"
)

// maybeRecount recounts if it is time to, or if something is wrong. A batch that is just
// being applied moves the numbers before the position: two looks are needed.
func (s *Subscription) maybeRecount(ctx context.Context, local sitedb.Subscription, now time.Time) {
	s.counter.Observe(local.SiteSeq - local.Position)
	if s.diverged != "" || !s.counter.Wanted(now) {
		return
	}
	found := s.counter.Count(ctx, now)
	s.diverged, s.unread = found.Differs, found.Unread
	s.cfg.Metrics.recounts.WithLabelValues(string(found.Result)).Inc()
}
