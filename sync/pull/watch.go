package pull

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/sync/recount"
)

// watched is what the copy is watched with for what others write into it.
type watched struct {
	write sync.Mutex // held while we write into the copy
	mu    sync.Mutex // guards what follows
	pace  recount.Pace
	call  func() // ends the question that is being asked; nil: none is
}

// wrote ends what write began.
func (w *watched) wrote() {
	w.mu.Lock()
	w.pace.Wrote()
	w.mu.Unlock()
	w.write.Unlock()
}

// count asks for a count now, and ends the question that is being asked.
func (w *watched) count() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pace.Now()
	w.interrupt()
}

func (w *watched) interrupt() {
	if w.call != nil {
		w.call()
	}
}

// asking is ctx for a question, which a count that is wanted ends.
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

// watch looks each second whether somebody else wrote into the copy: the puller may wait
// for news for longer than a minute.
func (p *Puller) watch(ctx context.Context) {
	if p.cfg.Mirror {
		return // sync/logical watches the copy
	}
	tick := time.NewTicker(p.cfg.Look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !p.watched.write.TryLock() {
			continue // it is us
		}
		number, err := p.cfg.Store.SiteSeq(ctx)
		if err == nil {
			p.watched.mu.Lock()
			p.watched.pace.Look(number)
			if p.watched.pace.Suspected(p.cfg.Now()) {
				p.watched.interrupt()
			}
			p.watched.mu.Unlock()
		} // else the puller tells that the database is away
		p.watched.write.Unlock()
	}
}

// recount compares the whole copy with its head: a row that was changed or lost
// here is found, and the copy seeded anew.
func (p *Puller) recount(ctx context.Context) {
	now := p.cfg.Now()
	w := &p.watched
	w.mu.Lock()
	wanted := w.pace.Wanted(now)
	if !p.copy.Seeded || !p.copy.Anchored { // it is about to be replaced: nobody breaks that off
		wanted = false
		w.pace.Wrote()
	}
	w.mu.Unlock()
	if p.cfg.Mirror || !wanted {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	counts, err := p.cfg.Store.Verify(ctx)
	wrong := db.Differences(counts)
	if p.unread = ""; db.Damaged(err) {
		wrong = err.Error()
	} else if err != nil { // the copy goes on following, and says that it is not well
		p.unread = "the copy cannot be counted: " + err.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pace.Counted(now, p.cfg.Now().Sub(now))
	if p.unread != "" {
		p.cfg.Log.WarnContext(ctx, "recount failed", slog.String("error", err.Error()))
		return
	}
	if w.pace.Told(wrong == "") {
		p.diverged = wrong
		p.cfg.Log.ErrorContext(ctx, "copy differs from its head", slog.String("how", wrong))
		p.forgetAll()
	}
}
