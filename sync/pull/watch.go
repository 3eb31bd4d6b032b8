package pull

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/sync/recount"
)

// watched is what the copy is watched with for what others write into it.
type watched struct {
	write sync.Mutex // held while we write into the copy
	mu    sync.Mutex // guards what follows
	pace  recount.Pace
	call  func() // ends the question that is being asked; nil: none is
}

// writing runs f, which writes into the copy and returns what tells the pace of it: what
// others write before, meanwhile and after stays suspect.
func (w *watched) writing(f func() (tell func(*recount.Pace))) {
	w.write.Lock()
	defer w.write.Unlock()
	tell := f()
	w.mu.Lock()
	defer w.mu.Unlock()
	tell(&w.pace)
}

// readNumber hands the last number of a change here to take. A database that is away others
// tell of.
func (p *Puller) readNumber(ctx context.Context, take func(number int64)) {
	number, err := p.cfg.Store.SiteSeq(ctx)
	if err != nil {
		return
	}
	p.watched.mu.Lock()
	defer p.watched.mu.Unlock()
	take(number)
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
	tick := time.NewTicker(p.cfg.WatchEvery)
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
		p.readNumber(ctx, func(number int64) {
			if p.watched.pace.Observe(number); p.watched.pace.Suspected(p.cfg.Now()) {
				p.watched.interrupt()
			}
		})
		p.watched.write.Unlock()
	}
}

// recount compares the whole copy with its head: a row that was changed or lost
// here is found, and the copy seeded anew.
func (p *Puller) recount(ctx context.Context) {
	now := p.cfg.Now()
	w := &p.watched
	w.mu.Lock()
	whole := p.copy.Seeded && p.copy.Anchored // else it is about to be replaced: nobody breaks that off
	wanted := w.pace.Wanted(now) && whole
	w.mu.Unlock()
	if wanted || !whole {
		p.readNumber(ctx, func(number int64) { w.pace.Observe(number); w.pace.Counting() })
	}
	if !wanted {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	counts, err := p.cfg.Store.Verify(ctx)
	wrong := db.Differences(counts)
	if p.unread = ""; tables.Damaged(err) {
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
	if w.pace.Compared(wrong == "") {
		p.diverged = wrong
		p.cfg.Log.ErrorContext(ctx, "copy differs from its head", slog.String("how", wrong))
		p.forgetAll()
	}
}

// Check has the copy recounted, and all sources asked for a newer key set, before
// the next question.
func (p *Puller) Check() {
	p.fetchKeys.Store(fetchFromAll)
	p.watched.count()
}
