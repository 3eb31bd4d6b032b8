package logical

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ocspfleet/db"
)

// recount decides when the copy is counted against its head, and remembers what
// came out.
//
// Every row that changes here takes a number of site_seq, whoever changes it,
// and every change at the master takes a position. So numbers minus positions
// stay equal while all changes come from the master: more of them, and somebody
// wrote here; fewer, and PostgreSQL skipped a change of a row that is not here.
// A recount will tell. (A batch that is just being applied or was rolled back,
// and changes of other tables, look alike: they cost a recount. What cancels out
// between two looks, the regular recount finds.)
type recount struct {
	due      time.Time // of the next regular one
	earliest time.Time // of one on suspicion
	known    bool      // excess is set
	excess   int64     // numbers minus positions when all was well
	suspect  int       // looks in a row that showed another
	unequal  int       // recounts in a row that failed
	diverged string    // what two recounts in a row found
}

// reset forgets everything: the copy is new.
func (r *recount) reset(due time.Time) { *r = recount{due: due} }

// wanted says whether to recount now, and notes what was seen.
func (r *recount) wanted(local db.Subscription, now time.Time) bool {
	excess := local.SiteSeq - local.Position
	if !r.known {
		r.known, r.excess = true, excess
	}
	if excess != r.excess {
		r.suspect++
	} else {
		r.suspect = 0
	}
	if r.unequal > 0 {
		return true
	}
	return !now.Before(r.due) || r.suspect >= 2 && !now.Before(r.earliest)
}

// maybeRecount recounts if it is time to, or if something is wrong. Two unequal
// counts in a row are believed.
func (s *Subscription) maybeRecount(ctx context.Context, local db.Subscription, now time.Time) {
	r := &s.recount
	if r.diverged != "" || !r.wanted(local, now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recountLimit)
	defer cancel()
	began := time.Now() // monotonic: this is for the pace, not for the record
	counts, err := s.cfg.Local.Verify(ctx)
	took := time.Since(began)
	r.due = now.Add(max(s.cfg.RecountInterval, 100*took))
	r.earliest = now.Add(max(5*s.cfg.Interval, 20*took))
	if err != nil {
		s.cfg.Metrics.recounted("failed")
		if ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "recount failed", slog.String("error", err.Error()))
		}
		return
	}
	var wrong []string
	for _, c := range counts {
		if !c.Identical {
			wrong = append(wrong, fmt.Sprintf("%s: %d rows with digest %016x, the head counts %d with %016x",
				c.Table, c.Counted.Count, uint64(c.Counted.Digest), c.Head.Count, uint64(c.Head.Digest)))
		}
	}
	if len(wrong) == 0 {
		s.cfg.Metrics.recounted("equal")
		r.unequal, r.suspect, r.excess = 0, 0, local.SiteSeq-local.Position
		return
	}
	s.cfg.Metrics.recounted("unequal")
	if r.unequal++; r.unequal >= 2 {
		r.diverged = strings.Join(wrong, "; ")
	}
}
