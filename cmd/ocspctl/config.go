package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
)

func (p *program) configCommand() *cobra.Command {
	var daemon string
	check := p.Command("check [FILE]", "read a configuration strictly: all faults at once; exit code 3 when there are any", `
		ocspctl config check --config ./ocspctl.yaml
		ocspctl config check --daemon ocspd
		ocspctl config check --daemon ocspsyncd ./ocspsyncd.yaml`,
		cobra.MaximumNArgs(1), func(ctx context.Context, args []string) error {
			if daemon == "" {
				if len(args) == 1 {
					p.ConfigPath = args[0]
				}
				return p.configCheck()
			}
			if !slices.Contains(daemons, daemon) {
				return cli.Usagef("--daemon %q: want %s", daemon, strings.Join(daemons, " or "))
			}
			file := "/etc/ocspfleet/" + daemon + ".yaml"
			if len(args) == 1 {
				file = args[0]
			}
			return p.daemonCheck(ctx, daemon, file)
		})
	check.Flags().StringVar(&daemon, "daemon", "", "have the daemon check its own: `"+strings.Join(daemons, "|")+"`")
	return cli.Noun("config", "look at a configuration", check)
}

func (p *program) configCheck() error {
	cfg, err := p.config()
	if faults := (*boot.Faults)(nil); errors.As(err, &faults) {
		return cli.Wrongf("%v", err)
	}
	if err != nil {
		return err
	}
	var faults []string
	for key, path := range cfg.Files() {
		if path == "" {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", key, err))
			continue
		}
		_ = file.Close() // nothing was written
	}
	if _, err := cfg.Database.Settings().URL(); err != nil && len(faults) == 0 {
		faults = append(faults, fmt.Sprintf("database.password_file: %v", err))
	}
	if cfg.DNS.Set() {
		if _, err := cfg.DNS.Open(p.Now); err != nil {
			faults = append(faults, fmt.Sprintf("dns.secret_file: %v", err))
		}
	}
	slices.Sort(faults)
	if len(faults) == 0 {
		return p.Print(map[string]any{"config": p.ConfigPath, "faults": []string{}}, func(t *cli.Table) { t.Line(p.ConfigPath + " is in order.") })
	}
	if err := p.Print(map[string]any{"config": p.ConfigPath, "faults": faults}, func(t *cli.Table) {
		for _, fault := range faults {
			t.Line(fault)
		}
	}); err != nil {
		return err
	}
	return cli.Wrongf("%d files that %s names cannot be read", len(faults), p.ConfigPath)
}
