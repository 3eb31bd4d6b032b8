package approval

import (
	"context"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	noun := p.Verbs("approval", "what one operator must not do alone", ctl.AtMaster(&list{Limit: 100}), ctl.AtMaster(&refuse{}))
	noun.AddCommand(p.Verbs("request", "ask for a second person's agreement", ctl.AtMaster(&bulk{}), ctl.AtMaster(&fork{})))
	return noun
}

// Approve returns the verb of the second person.
func Approve() cli.Verb { return ctl.AtMaster(&approve{}) }

// list is approval list.
type list struct {
	All   bool `flag:"all" help:"also those approved, refused or expired"`
	Limit int  `flag:"limit" help:"at most <N>"`
}

func (list) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "show what waits for a second approver",
		Long: "Shows the open requests, the newest first; with --all also those approved, refused or expired.",
		Example: `
		ocspctl approval list
		ocspctl approval list --all --limit 20 --output json`,
	}
}

// Check requires a valid limit.
func (v *list) Check() error {
	if v.Limit < 1 {
		return cli.Usagef("--limit %d: want 1 or more", v.Limit)
	}
	return nil
}

func (v *list) Run(ctx context.Context, m *ctl.Master) error {
	found, err := m.Store.Approvals(ctx, !v.All, v.Limit)
	if err != nil {
		return err
	}
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return err
	}
	return m.Show(cli.List("requests", found, func(a masterdb.Approval) cli.Record { return newRequest(a, issuers, m.Now()).record() }))
}
