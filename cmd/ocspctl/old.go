package main

import (
	"context"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

// program is the receiver of the verbs that have no package yet.
type program struct{ *cli.Program }

// require marks flags that a verb cannot do without.
func require(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // no such flag: a slip in this program
		}
	}
}

// change holds the flags of the verbs that change something.
type change struct {
	apply bool
	why   string
}

func (c *change) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.apply, "apply", false, "do it; without it the plan is shown and nothing is done")
	cmd.Flags().StringVar(&c.why, "why", "", "the `REASON` for people, kept in the audit")
}

func (c *change) act() (db.Act, error) { return ctl.Act(cli.Change{Apply: c.apply, Why: c.why}) }

func (p *program) config() (*config.Config, error) { return ctl.Load(p.Program) }

func (p *program) store(ctx context.Context) (*masterdb.DB, *config.Config, error) {
	cfg, err := p.config()
	if err != nil {
		return nil, nil, err
	}
	store, err := ctl.OpenMaster(ctx, cfg)
	return store, cfg, err
}

// atMaster runs a verb on the master's database.
func (p *program) atMaster(ctx context.Context, do func(*masterdb.DB, *config.Config) error) error {
	store, cfg, err := p.store(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(store, cfg)
}
