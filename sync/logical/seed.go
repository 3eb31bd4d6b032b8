package logical

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// progressInterval is how often a long seed logs its progress.
const progressInterval = 10 * time.Second

// seed copies everything again. The old copy stays until the new one is whole.
func (s *Subscription) seed(ctx context.Context, reason string, local sitedb.Subscription) {
	defer func() { s.subscriber.backoff.attempted(s.cfg.Now()) }()
	s.enter(result{name: Seeding, detail: reason}, local)
	if local.Exists && local.Enabled {
		// The old worker must not get ahead of the new slot's snapshot: a row that it brings after
		// that would be missing for a moment.
		if err := s.halt(ctx); err != nil {
			s.seedBroke(ctx, reason, local, err)
			return
		}
	}
	began := time.Now()
	var done, total atomic.Int64
	stop := s.reportProgress(ctx, began, &done, &total)
	open, why := s.corrections()
	seeded, err := s.cfg.Local.Replace(ctx, &sitedb.MasterSeed{
		Master: s.cfg.Master, Slot: s.subscriber.newSlot(), Open: open, Why: why,
		Progress: func(rows, of int64) { done.Store(rows); total.Store(of) },
	})
	stop()
	s.cfg.Metrics.rows.Add(float64(done.Load()))
	if err != nil {
		s.seedBroke(ctx, reason, local, err)
		return
	}
	now := s.cfg.Now()
	s.cfg.Metrics.reseeds.WithLabelValues(reason).Inc()
	s.counter.Copied(now)
	s.diverged = ""
	s.probe, s.probeDue, s.subscriber.connected = probe{}, time.Time{}, true
	s.workerSeen, s.heard, s.refused, s.broke = now, now, "", ""
	s.mu.Lock()
	s.state.Reseeds++
	s.mu.Unlock()
	level := slog.LevelInfo
	if reason == string(Diverged) {
		level = slog.LevelWarn
	}
	s.cfg.Log.Log(ctx, level, "seeded", slog.String("reason", reason), slog.Int64("position", seeded.Head.Position),
		slog.Int64("certificates", seeded.Head.Certificates.Count), slog.Float64("took_seconds", time.Since(began).Seconds()),
		slog.Int64("differing", seeded.Differing), slog.Any("examples", seeded.Examples))
	if ours(local.Slot, s.cfg.Site) {
		s.subscriber.dropSlot(ctx, local.Slot)
	}
}

// seedBroke says why a seed failed. The next step finds the old subscription disabled, and enables
// it.
func (s *Subscription) seedBroke(ctx context.Context, reason string, local sitedb.Subscription, err error) {
	if ctx.Err() != nil {
		return // a stop is not a failure
	}
	s.cfg.Metrics.failed.Inc()
	s.probeDue, s.broke = time.Time{}, err.Error()
	if errors.Is(err, db.ErrRevocationsLost) {
		s.refused = err.Error()
		s.enter(result{name: RevocationsLost, detail: s.refused}, local)
	}
	s.cfg.Log.ErrorContext(ctx, "seed broken off", slog.String("reason", reason), slog.String("error", err.Error()))
}

// halt disables the subscription and waits until its worker has ended.
func (s *Subscription) halt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	if err := s.cfg.Local.EnableSubscription(ctx, db.SubscriptionName, false); err != nil {
		return err
	}
	for {
		local, err := s.cfg.Local.Subscription(ctx, db.SubscriptionName)
		if err != nil {
			return fmt.Errorf("waiting for the worker to end: %w", err)
		}
		if !local.Worker {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the worker to end: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// reportProgress logs the progress of a seed until the returned function is called.
func (s *Subscription) reportProgress(ctx context.Context, began time.Time, done, total *atomic.Int64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			rows, all := done.Load(), total.Load()
			rate := float64(rows) / time.Since(began).Seconds()
			attrs := []slog.Attr{slog.Int64("rows", rows), slog.Int64("of", all), slog.Float64("rows_per_second", rate)}
			if rate > 0 {
				attrs = append(attrs, slog.Float64("eta_seconds", float64(all-rows)/rate))
			}
			s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "seeding", attrs...)
		}
	}()
	return func() { cancel(); <-ended }
}
