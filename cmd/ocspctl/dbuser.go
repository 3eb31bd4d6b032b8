package main

import (
	"context"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"

	"github.com/spf13/cobra"
)

// atEither runs a verb on the database of the configuration, a master's or a site's.
func (p *program) atEither(ctx context.Context, do func(*tables.DB, *config.Config) error) error {
	cfg, err := p.config()
	if err != nil {
		return err
	}
	store, err := ctl.Open(ctx, cfg, migrations.Role(cfg.Role), tables.Open)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store, cfg)
}

// loginView is a login as ocspctl shows it.
type loginView struct {
	Name        string   `json:"name"`
	Groups      []string `json:"groups"`
	Kind        *string  `json:"kind"` // person or service; null at a site
	Site        *string  `json:"site"` // at the master: whose it is
	Connections int      `json:"connections"`
	Sessions    int      `json:"sessions"`
}

func viewLogin(l tables.Account) loginView {
	return loginView{l.Name, l.Groups, cli.TextOrNil(l.Kind), cli.TextOrNil(l.Site), l.Connections, l.Sessions}
}

func (v loginView) tell(t *cli.Table) {
	t.Row(v.Name, strings.Join(v.Groups, ","), cli.OrDash(v.Kind), cli.OrDash(v.Site), strconv.Itoa(v.Sessions)+" of "+strconv.Itoa(v.Connections))
}

func (p *program) dbUserListCommand() *cobra.Command {
	return p.Command("list", "show the logins in groups of ours", "ocspctl db user list", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		return p.atEither(ctx, func(store *tables.DB, _ *config.Config) error {
			logins, err := store.Logins(ctx)
			if err != nil {
				return err
			}
			views := make([]loginView, len(logins))
			for i, l := range logins {
				views[i] = viewLogin(l)
			}
			return p.Print(map[string]any{"logins": views}, func(t *cli.Table) {
				t.Row("LOGIN", "GROUP", "KIND", "SITE", "SESSIONS")
				for _, v := range views {
					v.tell(t)
				}
			})
		})
	})
}

func (p *program) dbUserRemoveCommand() *cobra.Command {
	var c change
	cmd := p.Command("remove NAME", "drop a login and end its sessions", `
		ocspctl db user remove alice
		ocspctl db user remove alice --why 'left the team' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atEither(ctx, func(store *tables.DB, _ *config.Config) error { return p.dbUserRemove(ctx, store, c, args[0]) })
		})
	cmd.Long = `A site's login is closed with its site (responder revoke), and cannot be removed here.
The login is gone from every database of the cluster. At the master it stands in the audit.`
	c.flags(cmd)
	return cmd
}

func (p *program) dbUserRemove(ctx context.Context, store *tables.DB, c change, name string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	var is tables.Account
	if err := store.Try(ctx, c.apply, func(store *tables.DB) error {
		is, err = store.RemoveLogin(ctx, name, act)
		return err
	}); err != nil {
		return err
	}
	if c.apply {
		if is.Sessions, err = store.EndSessions(ctx); err != nil {
			return err
		}
	}
	result := struct {
		cli.Outcome
		Login loginView `json:"login"` // sessions: those that are or would be ended
	}{cli.NewOutcome("db user remove", c.apply, true), viewLogin(is)}
	return p.Print(result, func(t *cli.Table) {
		t.Row("login", is.Name)
		t.Row("groups", strings.Join(is.Groups, ", "))
		t.Row("sessions ended", strconv.Itoa(is.Sessions))
		result.Tell(t)
	})
}
