package pull

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/feed"
)

const (
	// visitTimeout is the longest talk that a clock is judged by; half of it is the
	// greatest error.
	visitTimeout = 5 * time.Second
	// seldom is how many times rarer a site visits that hears from peers alone: a
	// visit opens a connection, which costs it and the master 4.6 kB.
	seldom = 60
	// deniedEvery is how often one that is denied access asks whether it is over.
	deniedEvery = 15 * time.Second
	// doubtful is a difference of clocks that is watched closely.
	doubtful = time.Minute
)

// visits has a word with the master itself now and then, until ctx ends, which no
// peer can stand for: its clock, against which this site's is judged, and whether
// this site is let in. A master that is away says nothing about either.
func (p *Puller) visits(ctx context.Context) {
	var master *feed.Client
	if at := slices.IndexFunc(p.cfg.Sources, (*feed.Client).Master); at >= 0 {
		master = p.cfg.Sources[at]
	}
	if master == nil {
		return
	}
	tick := time.NewTicker(min(p.cfg.Visit, visitTimeout))
	defer tick.Stop()
	var last time.Time // monotonic: this site's clock may be set
	var skew time.Duration
	for {
		if since := time.Since(last); last.IsZero() || since >= p.visitEvery(skew) {
			if every := p.visitEvery(skew); !last.IsZero() && every > p.cfg.Visit {
				p.lookForKeys.CompareAndSwap(0, look) // by the connection that is made now
			}
			last = time.Now()
			skew = p.visit(ctx, master, skew)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// visitEvery is how long after a visit the next one is due.
func (p *Puller) visitEvery(skew time.Duration) time.Duration {
	age := p.cfg.Now().Sub(p.State().AsOf) // news look old, or of the future, by a clock that is wrong
	switch {
	case p.access.denied():
		return min(p.cfg.Visit, deniedEvery)
	case p.near.Load(), skew.Abs() > doubtful, age > p.cfg.StaleAfter, age < -doubtful:
		return p.cfg.Visit
	}
	return seldom * p.cfg.Visit
}

// visit asks once, and returns by how much this site's clock is ahead, as last known.
func (p *Puller) visit(ctx context.Context, master *feed.Client, known time.Duration) time.Duration {
	call, cancel := context.WithTimeout(ctx, visitTimeout)
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
