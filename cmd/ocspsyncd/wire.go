package main

import (
	"context"
	"fmt"
	"slices"

	"ocspfleet/cmd/internal/schema"
	"ocspfleet/db/publisherdb"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/db/upstream"
	"ocspfleet/migrations"
	"ocspfleet/ops/config"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/heartbeat"
	"ocspfleet/sync/logical"
	"ocspfleet/sync/replica"
	"ocspfleet/sync/watchdog"

	"golang.org/x/mod/sumdb/note"
)

// wire adds to the plan the parts for the role and the way of syncing, and returns the function
// behind /readyz.
func (w wiring) wire(ctx context.Context) (func() []string, error) {
	if w.cfg.Role == config.RoleMaster {
		store, err := publisherdb.Open(ctx, databaseOf(w.cfg.Database))
		if err != nil {
			return nil, err
		}
		return w.withSchema(ctx, store.DB, master{w, store}.wire)
	}
	store, err := sitedb.Open(ctx, databaseOf(w.cfg.Database))
	if err != nil {
		return nil, err
	}
	if w.cfg.Sync == config.SyncFeed {
		return w.withSchema(ctx, store.DB, site{w, store}.byFeed)
	}
	return w.withSchema(ctx, store.DB, site{w, store}.byReplication)
}

// withSchema waits until the database is there with our schema, and watches that it stays so;
// wire adds the rest.
func (w wiring) withSchema(ctx context.Context, store *tables.DB, wire func(context.Context) (func() []string, error)) (func() []string, error) {
	w.plan.AddCloser("database", func() error { store.Close(); return nil })
	if err := store.AwaitSchema(ctx, w.cfg.Role, w.env.Log, w.plan.Admin.Starting); err != nil {
		return nil, err
	}
	ready, err := wire(ctx)
	if err != nil || w.env.CheckOnly {
		return nil, err
	}
	shape := &schema.Watch{Store: store, Role: migrations.Role(w.cfg.Role), Log: w.env.Log}
	w.plan.AddWorker("schema", shape.Run)
	return func() []string { return slices.Concat(ready(), present(shape.Fault())) }, nil
}

// master is the wiring at the master, by a login in ocsp_publisher.
type master struct {
	wiring
	store *publisherdb.DB
}

// site is the wiring at a site, by a login in ocsp_sync.
type site struct {
	wiring
	store *sitedb.DB
}

// wire confirms the head, and signs and serves the feed if there is one.
func (w master) wire(ctx context.Context) (func() []string, error) {
	beat := heartbeat.New(heartbeat.Config{Store: w.store, Interval: w.cfg.Heartbeat, Log: w.env.Log, Metrics: heartbeat.NewMetrics(w.registry)})
	w.plan.AddWorker("heartbeat", beat.Run)
	watch := watchdog.New(watchdog.Config{Store: w.store, Log: w.env.Log, Metrics: watchdog.NewMetrics(w.registry)})
	w.plan.AddWorker("watchdog", watch.Run)
	troubles := func() []string { return nil }
	if w.cfg.Feed.Given() {
		if err := w.offers(); err != nil {
			return nil, err
		}
	}
	if w.cfg.Feed.Given() && !w.cfg.Feed.RootAlone() {
		var err error
		if troubles, err = w.publish(ctx); err != nil {
			return nil, err
		}
	}
	return func() []string { return slices.Concat(present(beat.Trouble()), present(watch.Trouble()), troubles()) }, nil
}

// byFeed wires a site whose rows come by the feed.
func (w site) byFeed(ctx context.Context) (func() []string, error) {
	if !w.env.CheckOnly { // an earlier native replication would go on writing the rows
		if err := w.store.DropSubscriptions(ctx); err != nil {
			return nil, err
		}
	}
	puller, err := w.follow(ctx)
	if err != nil {
		return nil, err
	}
	w.plan.AddWorker("hangup", func(ctx context.Context) error { return onHangup(ctx, puller.Check) })
	return func() []string { return present(puller.State().Trouble) }, nil
}

// byReplication wires a site whose rows come by native replication. If a root is pinned, the
// signed files come by another subscription.
func (w site) byReplication(ctx context.Context) (func() []string, error) {
	master, err := upstream.Open(ctx, databaseOf(w.cfg.Master))
	if err != nil {
		return nil, err
	}
	w.plan.AddCloser("master", func() error { master.Close(); return nil })
	var root note.Verifier
	files := func() string { return "" }
	if w.cfg.Feed.Given() {
		if root, err = w.cfg.Feed.Verifier(); err != nil {
			return nil, fmt.Errorf("feed.root %w", err)
		}
		kept, err := w.files(ctx, master, root)
		if err != nil {
			return nil, err
		}
		files = kept.Trouble
	}
	subscription, err := logical.New(logical.Config{
		Site: w.cfg.Site, Local: w.store, Master: master, Root: root, RecountInterval: w.cfg.Recount, Log: w.env.Log, Metrics: logical.NewMetrics(w.registry),
	})
	if err != nil {
		return nil, err
	}
	w.plan.AddWorker("subscription", subscription.Run)
	w.plan.AddWorker("hangup", func(ctx context.Context) error { return onHangup(ctx, subscription.Check) })
	return func() []string { return present(subscription.State().Trouble(), files()) }, nil
}

// files adds to the plan the part that keeps the signed files of a native site in step, and
// relays them if configured.
func (w site) files(ctx context.Context, master *upstream.DB, root note.Verifier) (*logical.Files, error) {
	cfg := logical.FilesConfig{
		Site: w.cfg.Site, Local: w.store, Master: master, Root: root, Latest: &feedhttp.Latest{}, Log: w.env.Log, Metrics: logical.NewFilesMetrics(w.registry),
	}
	if w.cfg.Feed.RootAlone() {
		files := logical.NewFiles(cfg)
		w.plan.AddWorker("files", files.Run)
		return files, nil
	}
	identity, sources, err := w.sources()
	if err != nil {
		return nil, err
	}
	reporter := replica.NewReporter(w.store, root, sources, w.env.Log)
	cfg.Behind, cfg.Forked = reporter.Behind, reporter.Wake
	files := logical.NewFiles(cfg)
	w.plan.AddWorker("files", files.Run)
	w.plan.AddWorker("forks", reporter.Run)
	return files, w.relay(ctx, identity, sources, feedhttp.ServerConfig{Store: w.store.Files(), Root: root, Latest: cfg.Latest, Check: files.Check})
}
