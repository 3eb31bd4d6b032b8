package main

import (
	"context"
	"fmt"
	"slices"

	"ocspfleet/db"
	"ocspfleet/sync/heartbeat"
	"ocspfleet/sync/logical"
	"ocspfleet/sync/watchdog"
)

// wire adds to the plan what the role and the way of syncing want, and returns
// what /readyz asks.
func (w wiring) wire(ctx context.Context) (func() []string, error) {
	switch {
	case w.cfg.Role == roleMaster:
		return w.master(ctx)
	case w.cfg.Sync == syncFeed:
		return w.feedSite(ctx)
	default:
		return w.logicalSite(ctx)
	}
}

// master confirms the head, and signs and serves the feed if there is one.
func (w wiring) master(ctx context.Context) (func() []string, error) {
	beat := heartbeat.New(heartbeat.Config{Store: w.store, Interval: w.cfg.Heartbeat, Log: w.env.Log, Metrics: heartbeat.NewMetrics(w.registry)})
	w.plan.AddWorker("heartbeat", beat.Run)
	watch := watchdog.New(watchdog.Config{Store: w.store, Log: w.env.Log, Metrics: watchdog.NewMetrics(w.registry)})
	w.plan.AddWorker("watchdog", watch.Run)
	troubles := func() []string { return nil }
	if w.cfg.Feed.given() {
		var err error
		if troubles, err = w.publish(ctx); err != nil {
			return nil, err
		}
	}
	return func() []string { return slices.Concat(present(beat.Trouble()), present(watch.Trouble()), troubles()) }, nil
}

// feedSite has its rows by the feed.
func (w wiring) feedSite(ctx context.Context) (func() []string, error) {
	puller, err := w.follow(ctx, false)
	if err != nil {
		return nil, err
	}
	w.plan.AddWorker("hangup", func(ctx context.Context) error { return onHangup(ctx, puller.Check) })
	return func() []string { return present(puller.State().Trouble) }, nil
}

// logicalSite has its rows by native replication, and mirrors the feed's files if
// it is told of a feed.
func (w wiring) logicalSite(ctx context.Context) (func() []string, error) {
	upstream, err := db.OpenUpstream(ctx, w.cfg.Master.config())
	if err != nil {
		return nil, err
	}
	w.plan.AddCloser("master", func() error { upstream.Close(); return nil })
	subscription, err := logical.New(logical.Config{
		Site: w.cfg.Site, Local: w.store, Master: upstream, RecountInterval: w.cfg.Recount, Log: w.env.Log, Metrics: logical.NewMetrics(w.registry),
	})
	if err != nil {
		return nil, err
	}
	w.plan.AddWorker("subscription", subscription.Run)
	w.plan.AddWorker("hangup", func(ctx context.Context) error { return onHangup(ctx, subscription.Check) })
	mirror := func() string { return "" }
	if w.cfg.Feed.given() {
		puller, err := w.follow(ctx, true)
		if err != nil {
			return nil, err
		}
		mirror = func() string { return puller.State().Trouble }
	}
	return func() []string {
		var reasons []string
		if state := subscription.State(); !state.Ready() {
			reasons = append(reasons, fmt.Sprintf("%s since %s: %s", state.Name, state.Since.UTC().Format("2006-01-02T15:04:05Z"), state.Detail))
		}
		return append(reasons, present(mirror())...)
	}, nil
}
