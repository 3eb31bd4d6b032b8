package pull

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feedhttp"
)

const (
	// checkInTimeout is the longest talk that a clock is judged by; half of it is the
	// greatest error.
	checkInTimeout = 5 * time.Second
	// idleFactor is how many times rarer a site checks in that hears from peers alone: a
	// check-in opens a connection, which costs it and the master 4.6 kB.
	idleFactor = 60
	// deniedEvery is how often one that is denied access asks whether it is over.
	deniedEvery = 15 * time.Second
	// doubtful is a difference of clocks that is watched closely.
	doubtful = time.Minute
)

// checkIns asks the master itself now and then, until ctx ends, which no
// peer can stand for: its clock, against which this site's is judged, and whether
// this site is let in. A master that is away says nothing about either.
func (p *Puller) checkIns(ctx context.Context) {
	var master *feedhttp.Client
	if at := slices.IndexFunc(p.cfg.Sources, (*feedhttp.Client).Master); at >= 0 {
		master = p.cfg.Sources[at]
	}
	if master == nil {
		return
	}
	tick := time.NewTicker(min(p.cfg.CheckIn, checkInTimeout))
	defer tick.Stop()
	var last time.Time // monotonic: this site's clock may be set
	var skew time.Duration
	for {
		if since := time.Since(last); last.IsZero() || since >= p.checkInEvery(skew) {
			if every := p.checkInEvery(skew); !last.IsZero() && every > p.cfg.CheckIn {
				p.fetchKeys.CompareAndSwap(0, fetchFromNext) // by the connection that is made now
			}
			last = time.Now()
			skew = p.checkIn(ctx, master, skew)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// checkInEvery is how long after a check-in the next one is due.
func (p *Puller) checkInEvery(skew time.Duration) time.Duration {
	age := p.cfg.Now().Sub(p.State().AsOf) // news look old, or of the future, by a clock that is wrong
	switch {
	case p.access.denied():
		return min(p.cfg.CheckIn, deniedEvery)
	case p.near.Load(), skew.Abs() > doubtful, age > p.cfg.StaleAfter, age < -doubtful:
		return p.cfg.CheckIn
	}
	return idleFactor * p.cfg.CheckIn
}

// checkIn asks once, and returns by how much this site's clock is ahead, as last known.
func (p *Puller) checkIn(ctx context.Context, master *feedhttp.Client, known time.Duration) time.Duration {
	call, cancel := context.WithTimeout(ctx, checkInTimeout)
	defer cancel()
	before, began := p.cfg.Now(), time.Now()
	clock, err := master.Clock(call)
	trip, after := time.Since(began), p.cfg.Now()
	if errors.Is(err, db.ErrNotFound) { // it let us in, and has no clock to show
		p.recordAccess(ctx, master, nil)
		return known
	}
	p.recordAccess(ctx, master, err)
	// A clock that was set meanwhile is judged the next time.
	if err != nil || (after.Sub(before)-trip).Abs() > doubtful/2 {
		return known
	}
	skew := before.Add(trip / 2).Sub(clock)
	p.cfg.Metrics.skewed(skew)
	if err := p.cfg.Store.SetSkew(ctx, skew, after); err != nil && ctx.Err() == nil {
		p.cfg.Log.WarnContext(ctx, "clock skew cannot be noted", slog.String("error", err.Error()))
	}
	if skew.Abs() > doubtful && known.Abs() <= doubtful {
		p.cfg.Log.ErrorContext(ctx, "clock differs from the master's", slog.Duration("ahead", skew))
	}
	return skew
}
