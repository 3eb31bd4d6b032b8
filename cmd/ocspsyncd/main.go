// Ocspsyncd carries certificate status. At the master it confirms the head; at a
// site it seeds, watches and repairs the copy. It never touches an OCSP key.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db"
	"ocspfleet/sync/heartbeat"
	"ocspfleet/sync/logical"
)

var program = boot.Program{
	Name:    "ocspsyncd",
	Summary: "Confirms the head at the master; seeds, watches and repairs the copy at a site.",
	Example: "ocspsyncd --config /etc/ocspfleet/ocspsyncd.yaml\nocspsyncd --config ./ocspsyncd.yaml --check-config",
	Config:  "/etc/ocspfleet/ocspsyncd.yaml",
}

func main() {
	os.Exit(boot.Main(program, os.Args[1:], os.Stdout, os.Stderr, run))
}

func run(ctx context.Context, env boot.Env) error {
	cfg := defaults()
	if err := boot.Load(env.Config, &cfg); err != nil {
		return err
	}
	env.Level.Set(cfg.LogLevel)
	registry := boot.NewRegistry()
	plan := &boot.Plan{Log: env.Log}
	defer plan.Close()

	store, err := db.Open(ctx, cfg.Database.config())
	if err != nil {
		return err
	}
	plan.AddCloser("database", func() error { store.Close(); return nil })
	if err := store.AwaitSchema(ctx, cfg.Role, env.Log); err != nil {
		return err
	}
	wire := master
	if cfg.Role == roleSite {
		wire = site
	}
	ready, err := wire(ctx, cfg, env, store, plan, registry)
	if err != nil {
		return err
	}
	if env.CheckOnly {
		return nil
	}
	plan.Admin = &boot.Admin{Metrics: registry, Level: env.Level, Ready: func(context.Context) []string { return ready() }}
	if plan.AdminListener, err = boot.ListenAdmin(ctx, cfg.Admin, false); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	env.Log.InfoContext(ctx, "ocspsyncd started")
	return plan.Run(ctx)
}

// master adds the heartbeat to the plan and returns what /readyz asks.
func master(_ context.Context, cfg Config, env boot.Env, store *db.Store, plan *boot.Plan, registry *prometheus.Registry) (func() []string, error) {
	beat := heartbeat.New(heartbeat.Config{Store: store, Interval: cfg.Heartbeat, Log: env.Log, Metrics: heartbeat.NewMetrics(registry)})
	plan.AddWorker("heartbeat", beat.Run)
	return func() []string {
		if trouble := beat.Trouble(); trouble != "" {
			return []string{trouble}
		}
		return nil
	}, nil
}

// site adds the subscription to the plan and returns what /readyz asks.
func site(ctx context.Context, cfg Config, env boot.Env, store *db.Store, plan *boot.Plan, registry *prometheus.Registry) (func() []string, error) {
	upstream, err := db.OpenUpstream(ctx, cfg.Master.config())
	if err != nil {
		return nil, err
	}
	plan.AddCloser("master", func() error { upstream.Close(); return nil })
	subscription, err := logical.New(logical.Config{
		Site: cfg.Site, Local: store, Master: upstream, RecountInterval: cfg.Recount, Log: env.Log, Metrics: logical.NewMetrics(registry),
	})
	if err != nil {
		return nil, err
	}
	plan.AddWorker("subscription", subscription.Run)
	plan.AddWorker("hangup", func(ctx context.Context) error { return onHangup(ctx, subscription.Check) })
	return func() []string {
		if state := subscription.State(); !state.Ready() {
			return []string{fmt.Sprintf("%s since %s: %s", state.Name, state.Since.UTC().Format("2006-01-02T15:04:05Z"), state.Detail)}
		}
		return nil
	}, nil
}

// onHangup calls do at each SIGHUP: kill -HUP recounts the copy now.
func onHangup(ctx context.Context, do func()) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			do()
		}
	}
}
