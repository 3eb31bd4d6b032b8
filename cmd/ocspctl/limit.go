package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

func (p *program) dbLimitCommand() *cobra.Command {
	var c change
	var perHour int64
	cmd := p.Command("limit", "show or set how many revocations an hour need no second person", `
		ocspctl db limit
		ocspctl db limit --revocations-per-hour 500 --why 'decided on 2026-11-20' --apply`,
		cobra.NoArgs, nil)
	cmd.RunE = p.Command("", "", "", nil, func(ctx context.Context, _ []string) error {
		set := cmd.Flags().Changed("revocations-per-hour")
		return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.dbLimit(ctx, store, c, perHour, set) })
	}).RunE
	cmd.Long = `Counts certificates that were good and are revoked or put on hold by a login: by
cert revoke, cert hold and cert import. Beyond the limit (100 an hour of one login
unless set) the master refuses them until two persons allow more: see ocspctl
approval request bulk. All services together revoke twice the limit, and all
logins three times: so a person's share is always left. What a login issued
within the hour and takes back counts against its own limit alone. Not counted:
certificates that come in revoked, holds that become permanent, and responder
revoke and suspend.
Showing it needs any login at the master, setting it a superuser.`
	cmd.Flags().Int64Var(&perHour, "revocations-per-hour", 0, "the new limit `N`; 0: every revocation needs two persons")
	c.flags(cmd)
	return cmd
}

func (p *program) dbLimit(ctx context.Context, store *masterdb.DB, c change, perHour int64, set bool) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	l, err := store.Limit(ctx)
	if err != nil {
		return err
	}
	before := l.PerHour
	if !set {
		perHour = before
	} else if err := store.Try(ctx, c.apply, func(store *masterdb.DB) error {
		before, err = store.SetLimit(ctx, perHour, act)
		return err
	}); err != nil {
		return err
	}
	result := struct {
		cli.Outcome
		PerHour  int64 `json:"revocations_per_hour"` // of one login
		Before   int64 `json:"before"`
		Used     int64 `json:"used_in_the_last_hour"` // by this login
		Services int64 `json:"used_by_services"`      // what they issued themselves within the hour apart, as in the next
		All      int64 `json:"used_by_all"`
	}{cli.NewOutcome("db limit", c.apply, perHour != before), perHour, before, l.Mine, l.Services, l.All}
	return p.Print(result, func(t *cli.Table) {
		t.Row("revocations an hour", strconv.FormatInt(perHour, 10)+" of one login")
		if set {
			t.Row("before", strconv.FormatInt(before, 10))
		}
		t.Row("used in the last hour", fmt.Sprintf("%d by this login", l.Mine))
		t.Row("by all services", fmt.Sprintf("%d of %d", l.Services, 2*perHour))
		t.Row("by all logins", fmt.Sprintf("%d of %d", l.All, 3*perHour))
		if set {
			result.Tell(t)
		}
	})
}

func (p *program) dbEpochCommand() *cobra.Command {
	var c change
	cmd := p.Command("epoch", "begin a new history at a master that was restored from a backup, or mended", `
		ocspctl db epoch
		ocspctl db epoch --why 'restored from the backup of 2026-11-20' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.dbEpoch(ctx, store, c) })
		})
	cmd.Long = `A restored master is behind its sites, which refuse a position that goes back.
First enter what it signed and has forgotten (ocspctl fleet lost says how), then
begin a new epoch: the sites take it up, unless a permanent revocation is still
missing. The head counts the rows anew: who mended by SQL what was written past the
triggers has right sums from then on. Needs a superuser. The epoch is the time in seconds
since 1970.`
	c.flags(cmd)
	return cmd
}

func (p *program) dbEpoch(ctx context.Context, store *masterdb.DB, c change) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	head, err := store.Head(ctx)
	if errors.Is(err, db.ErrNoHead) {
		return errors.New("this master has no head: run ocspctl db init --role master")
	}
	if err != nil {
		return err
	}
	next := max(p.Now().Unix(), head.Epoch+1)
	var recounted []string
	if err := store.Try(ctx, c.apply, func(store *masterdb.DB) error {
		recounted, err = store.NewEpoch(ctx, next, act)
		return err
	}); err != nil {
		return err
	}
	result := struct {
		cli.Outcome
		Epoch     int64    `json:"epoch"`
		Before    int64    `json:"before"`
		Recounted []string `json:"recounted"` // tables whose rows were not what the head said
	}{cli.NewOutcome("db epoch", c.apply, true), next, head.Epoch, recounted}
	return p.Print(result, func(t *cli.Table) {
		t.Row("epoch", strconv.FormatInt(next, 10)+" ("+cli.Stamp(time.Unix(next, 0))+")")
		t.Row("before", strconv.FormatInt(head.Epoch, 10))
		if len(recounted) > 0 {
			t.Row("recounted", strings.Join(recounted, ", "))
		}
		result.Tell(t)
	})
}
