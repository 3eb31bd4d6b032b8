// Ocspd answers OCSP requests at one site. It reads the site's own database, signs with the key
// in the site's own token, and connects to nothing else except, if configured, its ocspsyncd's
// socket.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/front"
	"ocspfleet/cmd/internal/schema"
	"ocspfleet/db/index"
	"ocspfleet/db/sitedb"
	"ocspfleet/hsm"
	"ocspfleet/hsm/tokenconf"
	"ocspfleet/migrations"
	"ocspfleet/signer"
	"ocspfleet/signer/ocsphttp"
)

var program = boot.Program{
	Name:    "ocspd",
	Summary: "Answers OCSP requests from this site's copy of certificate status, signed with this site's own key.",
	Example: "ocspd --config /etc/ocspfleet/ocspd.yaml\nocspd --config ./ocspd.yaml --check-config",
	Config:  "/etc/ocspfleet/ocspd.yaml",

	NoRestart: tokenconf.ErrPIN, // each start would offer the PIN again, until the token locks
}

func main() {
	os.Exit(boot.Main(program, os.Args[1:], os.Stdout, os.Stderr, run))
}

func run(ctx context.Context, env boot.Env) error {
	cfg := newSettings()
	if err := boot.Load(env.Config, &cfg); err != nil {
		return err
	}
	env.Level.Set(cfg.LogLevel)
	// A core dump would hold the PIN.
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	pins, err := cfg.pins()
	if err != nil {
		return err
	}
	registry := boot.NewRegistry()
	plan := &boot.Plan{Log: env.Log, DrainDelay: cfg.DrainDelay}
	defer plan.Close()
	plan.Admin = &boot.Admin{Metrics: registry, Level: env.Level}
	if !env.CheckOnly {
		if err := plan.StartAdmin(ctx, cfg.Admin); err != nil {
			return err
		}
	}

	store, err := sitedb.Open(ctx, cfg.database())
	if err != nil {
		return err
	}
	plan.AddCloser("database", func() error { store.Close(); return nil })
	if err := store.AwaitSchema(ctx, "site", env.Log, plan.Admin.Starting); err != nil {
		return err
	}
	plan.Admin.Starting("opening the token")
	tokens, err := hsm.OpenTokens(ctx, cfg.hsm(env.Log, hsm.NewMetrics(registry)))
	if err != nil {
		return err
	}
	plan.AddCloser("token", tokens.Close)
	trusted, err := openTrusted(cfg.Feed)
	if err != nil {
		return err
	}
	forks, clock := forksOf(cfg.Feed, store, trusted, env.Log), &clockWatch{store: store, now: time.Now}
	copied, err := index.Open(ctx, store, index.Config{
		Poll: cfg.Poll, Logger: env.Log, Metrics: index.NewMetrics(registry), Trust: trusted.trust(), Doubt: func() string { return cmp.Or(clock.Doubt(), forks.Doubt()) },
	})
	if err != nil {
		return err
	}
	responder, err := signer.New(signer.Config{
		Pins: pins, CacheBytes: cfg.CacheMB << 20, SignTimeout: cfg.SignTimeout(), Lookup: lookupOf(cfg.Feed, trusted), Logger: env.Log, Metrics: signer.NewMetrics(registry),
	}, copied, tokens)
	if err != nil {
		return err
	}
	clients, err := cfg.front(env.Log, front.NewMetrics(registry, "ocspd"))
	if err != nil {
		return err
	}
	if env.CheckOnly {
		return nil
	}

	public, err := boot.Listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	shape := &schema.Watch{Store: store.DB, Role: migrations.Site, Log: env.Log}
	plan.Admin.Forks, plan.Admin.Ready = forks.Forks, func(ctx context.Context) []string {
		reasons := responder.Ready(ctx)
		if err := tokens.Health(); err != nil {
			reasons = append(reasons, err.Error())
		}
		if away := copied.Away(); away != "" {
			reasons = append(reasons, away)
		}
		if fault := shape.Fault(); fault != "" {
			reasons = append(reasons, fault)
		}
		return reasons
	}
	plan.AddWorker("token", tokens.Run)
	plan.AddWorker("token watchdog", func(ctx context.Context) error { return tokens.Watch(ctx, cfg.ExitWhenStuck) })
	plan.AddWorker("copy", copied.Run)
	plan.AddWorker("forks", forks.Run)
	plan.AddWorker("clock", clock.Run)
	plan.AddWorker("schema", shape.Run)
	plan.AddWorker("responder", responder.Run)
	server := ocsphttp.NewServer(ocsphttp.WithCRLs(responder, time.Now, ocsphttp.Handler(responder, registry)), env.Log)
	plan.AddServer("ocsp", server, clients.Attach(server, public))
	env.Log.InfoContext(ctx, "ocspd started")
	return plan.Run(ctx)
}
