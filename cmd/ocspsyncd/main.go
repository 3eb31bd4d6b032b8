// Ocspsyncd carries certificate status. At the master it confirms the head and
// signs the feed; at a site it seeds, watches and repairs the copy, and relays the
// feed. It never touches an OCSP key.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/ops/config"
)

var program = boot.Program{
	Name:    "ocspsyncd",
	Summary: "Confirms the head and signs the feed at the master; seeds, watches and repairs the copy at a site.",
	Example: "ocspsyncd --config /etc/ocspfleet/ocspsyncd.yaml\nocspsyncd --config ./ocspsyncd.yaml --check-config",
	Config:  "/etc/ocspfleet/ocspsyncd.yaml",
}

func main() {
	os.Exit(boot.Main(program, os.Args[1:], os.Stdout, os.Stderr, run))
}

func run(ctx context.Context, env boot.Env) error {
	cfg := settings{config.DefaultOcspsyncd()}
	if err := boot.Load(env.Config, &cfg); err != nil {
		return err
	}
	env.Level.Set(cfg.LogLevel)
	registry := boot.NewRegistry()
	plan := &boot.Plan{Log: env.Log}
	defer plan.Close()
	plan.Admin = &boot.Admin{Metrics: registry, Level: env.Level}
	if !env.CheckOnly {
		if err := plan.StartAdmin(ctx, cfg.Admin); err != nil {
			return err
		}
	}

	ready, err := wiring{cfg, env, plan, registry}.wire(ctx)
	if err != nil || env.CheckOnly {
		return err
	}
	plan.Admin.Ready = func(context.Context) []string { return ready() }
	env.Log.InfoContext(ctx, "ocspsyncd started")
	return plan.Run(ctx)
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
