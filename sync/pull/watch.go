package pull

import (
	"context"
	"log/slog"
	"sync"

	"ocspfleet/sync/health"
	"ocspfleet/sync/replica"
)

// watched counts the copy, and notices when other programs write into it.
type watched struct {
	replica.Counter
	write sync.Mutex // held while the puller writes into the copy
	mu    sync.Mutex // guards call
	call  func()     // ends the current question; nil: there is none
}

// writing runs f, which writes into the copy and returns what to tell the pace: writes by others
// before, during and after it stay suspect.
func (w *watched) writing(f func() (tell func(*replica.Pace))) {
	w.write.Lock()
	defer w.write.Unlock()
	f()(&w.Pace)
}

// observe reads the last number of a change here. It ignores a database that is away: other checks
// report that.
func (w *watched) observe(ctx context.Context) {
	if number, err := w.Store.SiteSeq(ctx); err == nil {
		w.Observe(number)
	}
}

// interrupt ends the current question.
func (w *watched) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.call != nil {
		w.call()
	}
}

// asking returns a ctx for a question, which a wanted count ends.
func (w *watched) asking(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.call = cancel
	w.mu.Unlock()
	return ctx, func() {
		w.mu.Lock()
		w.call = nil
		w.mu.Unlock()
		cancel()
	}
}

// watch checks each second whether another program wrote into the copy: the puller may wait for
// news for longer than a minute.
func (p *Puller) watch(ctx context.Context) error {
	return health.Every{Pause: health.Always(p.cfg.WatchEvery)}.Run(ctx, func(ctx context.Context) error {
		if !p.watched.write.TryLock() {
			return nil // the puller itself writes
		}
		defer p.watched.write.Unlock()
		if p.watched.observe(ctx); p.watched.Suspected(p.cfg.Now()) {
			p.watched.interrupt()
		}
		return nil
	})
}

// recount compares the whole copy with its head: it finds a row that was changed or lost here, and
// the copy is seeded again.
func (p *Puller) recount(ctx context.Context) {
	now := p.cfg.Now()
	switch {
	case !p.copy.Seeded || !p.copy.Anchored: // the copy is about to be replaced: no count interrupts that
		p.watched.observe(ctx)
		p.watched.Counting()
		return
	case !p.watched.Wanted(now):
		return
	}
	p.watched.observe(ctx)
	found := p.watched.Count(ctx, now)
	if p.unread = found.Unread; found.Differs != "" {
		p.diverged = found.Differs
		p.cfg.Log.ErrorContext(ctx, "copy differs from its head", slog.String("how", p.diverged))
		p.forgetAll()
	}
}

// Check makes the puller recount the copy, and ask all sources for a newer key set, before the next
// question.
func (p *Puller) Check() {
	p.fetchKeys.Store(fetchFromAll)
	p.watched.Now()
	p.watched.interrupt()
}
