package main

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

func (p *program) dbPurgeCommand() *cobra.Command {
	var c change
	var issuer, before string
	cmd := p.Command("purge", "delete the certificates of an issuer that ended before a time, here and at every site", `
		ocspctl db purge --issuer web-ca --before 2025-01-01
		ocspctl db purge --issuer web-ca --before 2025-01-01 --why 'as decided in 2024' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.dbPurge(ctx, store, c, issuer, before) })
		})
	cmd.Long = `Nothing is purged unless two persons agree: --apply files a request, another
person approves it (ocspctl approve), and then the same command deletes. It has
no way back: a site cannot tell a purged serial from one that was never issued, so
that the issuer's policy becomes never_issued: unauthorized with the first purge,
for ever (RFC 9919 section 3.2.3). An issuer that says revoked for such serials is
refused. Certificates of responders stay. Deletes in batches, each with its entry
in the audit; broken off, run it again. Serials must never be used twice: a purged
revocation is forgotten.`
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	cmd.Flags().StringVar(&before, "before", "", "certificates whose validity ended before `TIME` go; two days ago at the latest")
	c.flags(cmd)
	require(cmd, "issuer", "before")
	return cmd
}

// purge is what db purge prints.
type purge struct {
	ctl.Requested
	Issuer       string  `json:"issuer"`
	Before       string  `json:"before"`
	PurgedBefore *string `json:"purged_before"` // what two persons agreed to
	NeverIssued  string  `json:"never_issued"`  // before
	Certificates int64   `json:"certificates"`  // that go, or went
}

func (p *program) dbPurge(ctx context.Context, store *masterdb.DB, c change, name, text string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	before, err := cli.ParseTime(text)
	if err != nil {
		return err
	}
	issuer, err := ctl.IssuerNamed(ctx, store, name)
	if err != nil {
		return err
	}
	agreed, err := store.PurgedBefore(ctx, issuer.ID)
	if err != nil {
		return err
	}
	n, err := store.Purgeable(ctx, issuer.ID, before)
	if err != nil {
		return err
	}
	result := purge{Issuer: issuer.Name, Before: cli.Stamp(before), PurgedBefore: cli.StampOrNil(agreed), NeverIssued: string(issuer.Policy.NeverIssued)}
	if before.Equal(agreed) {
		if c.apply {
			if n, err = store.Purge(ctx, issuer.ID, act); err != nil {
				return err
			}
		}
		result.Outcome = cli.NewOutcome("db purge", c.apply, n > 0)
	} else if result.Requested, err = p.askPurge(ctx, store, c, issuer, before); err != nil {
		return err
	}
	result.Certificates = n
	return p.Print(result, result.tell)
}

// askPurge files the request, or tries to.
func (p *program) askPurge(ctx context.Context, store *masterdb.DB, c change, issuer db.Issuer, before time.Time) (ctl.Requested, error) {
	if c.apply && strings.TrimSpace(c.why) == "" {
		return ctl.Requested{}, cli.Usagef("--why: a request for approval says why")
	}
	if !c.apply {
		c.why = cmp.Or(c.why, "a plan")
	}
	act, err := c.act()
	if err != nil {
		return ctl.Requested{}, err
	}
	var id int64
	var expires time.Time
	err = store.Try(ctx, c.apply, func(store *masterdb.DB) error {
		id, expires, err = store.RequestPurge(ctx, issuer.ID, before, act)
		return err
	})
	if !c.apply {
		id = 0
	}
	return ctl.NewRequested("db purge", id, expires), err
}

func (r purge) tell(t *cli.Table) {
	t.Row("issuer", r.Issuer)
	t.Row("ended before", r.Before)
	t.Row("purged before", cli.OrDash(r.PurgedBefore))
	t.Row("certificates", strconv.FormatInt(r.Certificates, 10))
	if r.NeverIssued != string(db.NeverIssuedUnauthorized) {
		t.Row("never issued", r.NeverIssued+" becomes unauthorized, for ever")
	}
	if r.PurgedBefore != nil && *r.PurgedBefore == r.Before {
		r.Outcome.Tell(t)
		return
	}
	r.Requested.Tell(t)
}
