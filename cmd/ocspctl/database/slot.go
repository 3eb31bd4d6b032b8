package database

import (
	"context"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
)

// slot is db slot.
type slot struct {
	cli.Change
	Name   string `arg:"[NAME]"`
	Allow  bool   `flag:"allow" help:"this slot is wanted"`
	Forbid bool   `flag:"forbid" help:"it is wanted no more; it is not dropped"`
}

func (slot) Doc() cli.Doc {
	return cli.Doc{
		Name: "slot", Short: "show the replication slots and whose they are, or allow one that is no site's",
		Long: `A slot reads the whole cluster and keeps its WAL. A site's bears its name, or was
seen to be read by its login; both go with responder revoke. Doctor names every
other one as a fault, unless the DBA allows it here: a standby's, a backup's. Any
login of ours may look, a superuser sets.`,
		Example: `
		ocspctl db slot
		ocspctl db slot standby_1 --allow --why 'the standby in Graz' --apply`,
	}
}

// Check requires a slot with --allow or --forbid, or no arguments.
func (v *slot) Check() error {
	if v.Name == "" && (v.Allow || v.Forbid) || v.Name != "" && v.Allow == v.Forbid {
		return cli.Usagef("want no arguments, or NAME with either --allow or --forbid")
	}
	return nil
}

func (v *slot) Run(ctx context.Context, m *ctl.Master) error {
	state, err := m.Store.MasterState(ctx)
	if err != nil {
		return err
	}
	if v.Name == "" {
		return m.Show(cli.List("slots", state.Slots, slotRow))
	}
	changed := slices.ContainsFunc(state.Slots, func(s masterdb.SlotState) bool { return s.Name == v.Name && s.Allowed }) != v.Allow
	if v.Apply {
		act, err := ctl.Act(v.Change)
		if err != nil {
			return err
		}
		if changed, err = m.Store.AllowSlot(ctx, v.Name, v.Allow, act); err != nil {
			return err
		}
	}
	return m.ShowChange(v.Outcome(changed), cli.Record{cli.F("slot", "slot", v.Name), cli.F("allowed", "allowed", v.Allow)})
}

// slotRow returns a slot, with its site unless that is revoked.
func slotRow(s masterdb.SlotState) cli.Record {
	whose := "NOBODY'S"
	switch {
	case s.Site != "":
		whose = "site " + s.Site
	case s.Allowed:
		whose = "allowed"
	}
	return cli.Record{
		cli.F("name", "SLOT", s.Name), cli.Shown("site", "WHOSE", cli.OrNil(s.Site), whose),
		cli.F("allowed", "", s.Allowed), cli.F("active", "ACTIVE", s.Active),
	}
}
