package database

import (
	"context"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	noun := p.Verbs("db", "set up and look at a database (as its superuser)",
		&initialize{}, &migrate{}, &status{}, ctl.AtEither(&verify{}), &force{},
		ctl.AtMaster(&limit{}), ctl.AtMaster(&slot{}), ctl.AtMaster(&epoch{}), ctl.AtMaster(&purge{}))
	noun.AddCommand(p.Verbs("user", "logins of the daemons and of people",
		ctl.AtEither(&userAdd{}), ctl.AtEither(&userList{}), ctl.AtEither(&userRemove{})))
	return noun
}

// roleFlag is the role of the database.
type roleFlag struct {
	Role string `flag:"role" help:"what the database is: <master|site> (default: role of the configuration)"`
}

// place is a database that may have no schema yet.
type place struct {
	role     migrations.Role
	url      string // the superuser's
	settings tables.Config
}

func (f roleFlag) place(p *cli.Program) (place, error) {
	cfg, err := ctl.Load(p)
	if err != nil {
		return place{}, err
	}
	if f.Role == "" {
		f.Role = cfg.Role
	}
	role := migrations.Role(f.Role)
	if !slices.Contains([]migrations.Role{migrations.Master, migrations.Site}, role) {
		return place{}, cli.Usagef("--role %q: want master or site", f.Role)
	}
	if err := cfg.WantRole(role); err != nil {
		return place{}, err
	}
	url, err := cfg.DatabaseSettings().URL()
	return place{role, url, cfg.DatabaseSettings()}, err
}

// note writes a change of the database itself into the master's audit.
func (p place) note(ctx context.Context, action string, what map[string]any) error {
	act, err := ctl.Act(cli.Change{})
	if err != nil {
		return err
	}
	store, err := masterdb.Open(ctx, p.settings)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = store.Note(ctx, action, what, act)
	return err
}
