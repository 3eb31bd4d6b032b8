package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

func (p *program) dbPurgeCommand() *cobra.Command {
	var c change
	var issuer, before string
	cmd := p.verb("purge", "delete the certificates of an issuer that ended before a time, here and at every site", `
		ocspctl db purge --issuer web-ca --before 2025-01-01
		ocspctl db purge --issuer web-ca --before 2025-01-01 --why 'as decided in 2024' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.dbPurge(ctx, store, c, issuer, before) })
		})
	cmd.Long = `Nothing is purged unless this is run. It has no way back: a site cannot tell a
purged serial from one that was never issued, so that the issuer's policy becomes
never_issued: unauthorized with the first purge, for ever (RFC 9919 section
3.2.3). An issuer that says revoked for such serials is refused. Certificates of
responders stay. Deletes in batches, each with its entry in the audit; broken off,
run it again. Serials must never be used twice: a purged revocation is forgotten.`
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	cmd.Flags().StringVar(&before, "before", "", "certificates whose validity ended before `TIME` go; an hour ago at the latest")
	c.flags(cmd)
	require(cmd, "issuer", "before")
	return cmd
}

// purge is what db purge prints.
type purge struct {
	outcome
	Issuer       string  `json:"issuer"`
	Before       string  `json:"before"`
	PurgedBefore *string `json:"purged_before"` // by an earlier purge
	NeverIssued  string  `json:"never_issued"`  // before
	Certificates int64   `json:"certificates"`  // that go, or went
}

func (p *program) dbPurge(ctx context.Context, store *db.Store, c change, name, text string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	before, err := parseTime(text)
	if err != nil {
		return err
	}
	issuer, err := issuerNamed(ctx, store, name)
	if err != nil {
		return err
	}
	earlier, err := store.PurgedBefore(ctx, issuer.ID)
	if err != nil {
		return err
	}
	n, err := store.Purgeable(ctx, issuer.ID, before)
	if err != nil {
		return err
	}
	var marked bool
	err = store.Try(ctx, c.apply, func(store *db.Store) error {
		marked, err = store.MarkPurge(ctx, issuer.ID, before, act)
		return err
	})
	if err != nil {
		return err
	}
	changed := n > 0 || marked
	if c.apply { // the deletions are too many for one transaction
		if n, err = store.Purge(ctx, issuer.ID, act); err != nil {
			return err
		}
	}
	result := purge{
		outcome{"db purge", c.apply, changed}, issuer.Name, stamp(before), stampOrNil(earlier), string(issuer.Policy.NeverIssued), n,
	}
	return p.print(result, result.tell)
}

func (r purge) tell(t *table) {
	t.row("issuer", r.Issuer)
	t.row("ended before", r.Before)
	t.row("purged before", orDash(r.PurgedBefore))
	t.row("certificates", strconv.FormatInt(r.Certificates, 10))
	if r.NeverIssued != string(db.NeverIssuedUnauthorized) {
		t.row("never issued", r.NeverIssued+" becomes unauthorized, for ever")
	}
	r.outcome.tell(t)
}
