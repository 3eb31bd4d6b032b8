package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("config", "look at a configuration", &check{})
}

// check is config check.
type check struct {
	File   string `arg:"[FILE]"`
	Daemon string `flag:"daemon" help:"have the daemon check its own: <ocspd|ocspsyncd>"`
}

func (check) Doc() cli.Doc {
	return cli.Doc{
		Name: "check", Short: "read a configuration strictly: all faults at once; exit code 3 when there are any",
		Long: `Reports all faults at once, each with file, line, key and, for an unknown key, the
nearest known one. ocspctl's own configuration unless --daemon names another: then
that daemon is run with --check-config, which does everything short of listening.`,
		Example: `
		ocspctl config check --config ./ocspctl.yaml
		ocspctl config check --daemon ocspd
		ocspctl config check --daemon ocspsyncd ./ocspsyncd.yaml`,
	}
}

func (v *check) Run(ctx context.Context, p *cli.Program) error {
	switch {
	case v.Daemon == "":
		p.ConfigPath = cmp.Or(v.File, p.ConfigPath)
		return own(p)
	case !slices.Contains(daemons, v.Daemon):
		return cli.Usagef("--daemon %q: want %s", v.Daemon, strings.Join(daemons, " or "))
	}
	return daemon(ctx, p, v.Daemon, cmp.Or(v.File, "/etc/ocspfleet/"+v.Daemon+".yaml"))
}

// own checks the configuration of ocspctl.
func own(p *cli.Program) error {
	cfg, err := ctl.Load(p)
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
	if _, err := cfg.DatabaseSettings().URL(); err != nil && len(faults) == 0 {
		faults = append(faults, fmt.Sprintf("database.password_file: %v", err))
	}
	if cfg.DNS.Set() {
		if _, err := settings.OpenZone(cfg.DNS, p.Now); err != nil {
			faults = append(faults, fmt.Sprintf("dns.secret_file: %v", err))
		}
	}
	slices.Sort(faults)
	lines := faults
	if len(faults) == 0 {
		lines = []string{p.ConfigPath + " is in order."}
	}
	if err := p.Show(cli.Record{cli.F("config", "", p.ConfigPath), cli.F("faults", "", faults)}, text(lines)); err != nil {
		return err
	}
	if len(faults) > 0 {
		return cli.Wrongf("%d files that %s names cannot be read", len(faults), p.ConfigPath)
	}
	return nil
}

// text are lines for people.
func text(lines []string) cli.Part {
	return cli.Said(func(t *cli.Table) {
		for _, line := range lines {
			t.Line(line)
		}
	})
}
