package pull

import (
	"context"
	"errors"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/health"
	"ocspfleet/sync/replica"
)

const (
	// checkInTimeout is the longest round trip that measures a clock; half of it is the greatest
	// error.
	checkInTimeout = 5 * time.Second
	// idleFactor is how many times rarer a site checks in that gets its news from peers alone: a
	// check-in opens a connection, which costs the site and the master 4.6 kB.
	idleFactor = 60
	// deniedEvery is how often a site that is denied access asks whether this is over.
	deniedEvery = 15 * time.Second
)

// checkIns asks the master itself from time to time, until ctx ends, for what no peer can answer:
// its clock, to compare this site's with, and whether this site is let in. A master that is away
// answers neither.
func (p *Puller) checkIns(ctx context.Context) {
	var master *feedhttp.Client
	if at := slices.IndexFunc(p.cfg.Sources, (*feedhttp.Client).Master); at >= 0 {
		master = p.cfg.Sources[at]
	}
	if master == nil {
		return
	}
	var last time.Time // monotonic: this site's clock may be set
	var skew time.Duration
	_ = health.Every{Pause: health.Always(min(p.cfg.CheckIn, checkInTimeout))}.Run(ctx, func(ctx context.Context) error {
		if since := time.Since(last); last.IsZero() || since >= p.checkInEvery(skew) {
			if every := p.checkInEvery(skew); !last.IsZero() && every > p.cfg.CheckIn {
				p.fetchKeys.CompareAndSwap(0, fetchFromNext) // by the connection that opens now
			}
			last = time.Now()
			skew = p.checkIn(ctx, master)
		}
		return nil
	})
}

// checkInEvery is how long after a check-in the next one is due.
func (p *Puller) checkInEvery(skew time.Duration) time.Duration {
	age := p.cfg.Now().Sub(p.State().AsOf) // by a wrong clock news look old, or of the future
	switch {
	case p.access.Denied():
		return min(p.cfg.CheckIn, deniedEvery)
	case p.near.Load(), skew.Abs() > replica.Doubtful, age > p.cfg.StaleAfter, age < -replica.Doubtful:
		return p.cfg.CheckIn
	}
	return idleFactor * p.cfg.CheckIn
}

// checkIn asks once, and returns by how much this site's clock is ahead, as last known.
func (p *Puller) checkIn(ctx context.Context, master *feedhttp.Client) time.Duration {
	skew, judged, err := p.clock.Measure(ctx, func(ctx context.Context) (time.Time, error) {
		ctx, cancel := context.WithTimeout(ctx, checkInTimeout)
		defer cancel()
		return master.Clock(ctx)
	})
	if errors.Is(err, db.ErrNotFound) { // the master let this site in, and has no clock to show
		err = nil
	}
	p.recordAccess(ctx, master, err)
	if judged {
		p.cfg.Metrics.skew.Set(skew.Seconds())
	}
	return skew
}
