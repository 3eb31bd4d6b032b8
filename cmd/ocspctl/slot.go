package main

import (
	"context"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

func (p *program) dbSlotCommand() *cobra.Command {
	var c change
	var allow, forbid bool
	cmd := p.Command("slot [NAME]", "show the replication slots and whose they are, or allow one that is no site's", `
		ocspctl db slot
		ocspctl db slot standby_1 --allow --why 'the standby in Graz' --apply`,
		cobra.MaximumNArgs(1), func(ctx context.Context, args []string) error {
			if len(args) == 0 && (allow || forbid) || len(args) == 1 && allow == forbid {
				return cli.Usagef("want no arguments, or NAME with either --allow or --forbid")
			}
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error {
				if len(args) == 0 {
					return p.dbSlots(ctx, store)
				}
				return p.dbSlotAllow(ctx, store, c, args[0], allow)
			})
		})
	cmd.Long = `A slot reads the whole cluster and keeps its WAL. A site's bears its name, or was
seen to be read by its login; both go with responder revoke. Doctor names every
other one as a fault, unless the DBA allows it here: a standby's, a backup's. Any
login of ours may look, a superuser sets.`
	cmd.Flags().BoolVar(&allow, "allow", false, "this slot is wanted")
	cmd.Flags().BoolVar(&forbid, "forbid", false, "it is wanted no more; it is not dropped")
	c.flags(cmd)
	return cmd
}

// slotView is a slot and whose it is.
type slotView struct {
	Name    string  `json:"name"`
	Site    *string `json:"site"` // null: none that is not revoked
	Allowed bool    `json:"allowed"`
	Active  bool    `json:"active"`
}

func (p *program) dbSlots(ctx context.Context, store *masterdb.DB) error {
	state, err := store.MasterState(ctx)
	if err != nil {
		return err
	}
	views := []slotView{}
	for _, s := range state.Slots {
		views = append(views, slotView{s.Name, cli.TextOrNil(s.Site), s.Allowed, s.Active})
	}
	return p.Print(map[string]any{"slots": views}, func(t *cli.Table) {
		t.Row("SLOT", "WHOSE", "ACTIVE")
		for _, v := range views {
			whose := "NOBODY'S"
			switch {
			case v.Site != nil:
				whose = "site " + *v.Site
			case v.Allowed:
				whose = "allowed"
			}
			t.Row(v.Name, whose, cli.Yes(v.Active))
		}
	})
}

func (p *program) dbSlotAllow(ctx context.Context, store *masterdb.DB, c change, name string, allow bool) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	state, err := store.MasterState(ctx)
	if err != nil {
		return err
	}
	changed := slices.ContainsFunc(state.Slots, func(s masterdb.SlotState) bool { return s.Name == name && s.Allowed }) != allow
	if c.apply {
		if changed, err = store.AllowSlot(ctx, name, allow, act); err != nil {
			return err
		}
	}
	result := struct {
		cli.Outcome
		Slot    string `json:"slot"`
		Allowed bool   `json:"allowed"`
	}{cli.NewOutcome("db slot", c.apply, changed), name, allow}
	return p.Print(result, func(t *cli.Table) {
		t.Row("slot", name)
		t.Row("allowed", cli.Yes(allow))
		result.Tell(t)
	})
}
