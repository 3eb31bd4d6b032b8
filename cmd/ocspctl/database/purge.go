package database

import (
	"cmp"
	"context"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// purge is db purge.
type purge struct {
	cli.Change
	Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
	Before string `flag:"before,required" help:"certificates whose validity ended before <TIME> go; two days ago at the latest"`
}

func (purge) Doc() cli.Doc {
	return cli.Doc{
		Name: "purge", Short: "delete the certificates of an issuer that ended before a time, here and at every site",
		Long: `Nothing is purged unless two persons agree: --apply files a request, another
person approves it (ocspctl approve), and then the same command deletes. It has
no way back: a site cannot tell a purged serial from one that was never issued, so
that the issuer's policy becomes never_issued: unauthorized with the first purge,
for ever (RFC 9919 section 3.2.3). An issuer that says revoked for such serials is
refused. Certificates of responders stay. Deletes in batches, each with its entry
in the audit; broken off, run it again. Serials must never be used twice: a purged
revocation is forgotten.`,
		Example: `
		ocspctl db purge --issuer web-ca --before 2025-01-01
		ocspctl db purge --issuer web-ca --before 2025-01-01 --why 'as decided in 2024' --apply`,
	}
}

func (v *purge) Run(ctx context.Context, m *ctl.Master) error {
	before, err := cli.ParseTime(v.Before)
	if err != nil {
		return err
	}
	issuer, err := m.Issuer(ctx, v.Issuer)
	if err != nil {
		return err
	}
	agreed, err := m.Store.PurgedBefore(ctx, issuer.ID)
	if err != nil {
		return err
	}
	n, err := m.Store.Purgeable(ctx, issuer.ID, before)
	if err != nil {
		return err
	}
	var result ctl.Requested
	var tell func(*cli.Table)
	if before.Equal(agreed) { // two persons agreed
		n, err = v.delete(ctx, m.Store, issuer.ID, n)
		result.Outcome = v.Outcome(n > 0)
		tell = result.Outcome.Tell
	} else {
		result, err = v.ask(ctx, m.Store, issuer.ID, before)
		tell = result.Tell
	}
	if err != nil {
		return err
	}
	r := cli.Record{
		cli.F("issuer", "issuer", issuer.Name), cli.F("before", "ended before", before), cli.F("purged_before", "purged before", agreed),
		cli.F("never_issued", "", issuer.Policy.NeverIssued), cli.F("certificates", "certificates", n), // that go, or went
	}
	if issuer.Policy.NeverIssued != db.NeverIssuedUnauthorized {
		r = append(r, cli.F("", "never issued", string(issuer.Policy.NeverIssued)+" becomes unauthorized, for ever"))
	}
	return m.Show(cli.Quiet(result), r, cli.Said(tell))
}

// delete returns how many were deleted, or would be.
func (v *purge) delete(ctx context.Context, store *masterdb.DB, issuer db.IssuerID, n int64) (int64, error) {
	if !v.Apply {
		return n, nil
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return 0, err
	}
	return store.Purge(ctx, issuer, act)
}

// ask files the request, or tries to.
func (v *purge) ask(ctx context.Context, store *masterdb.DB, issuer db.IssuerID, before time.Time) (ctl.Requested, error) {
	if err := v.WantWhy("a request for approval"); err != nil {
		return ctl.Requested{}, err
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return ctl.Requested{}, err
	}
	if !v.Apply {
		act.Why = cmp.Or(act.Why, "a plan")
	}
	var id int64
	var expires time.Time
	err = store.Try(ctx, v.Apply, func(store *masterdb.DB) error {
		id, expires, err = store.RequestPurge(ctx, issuer, before, act)
		return err
	})
	if !v.Apply {
		id = 0
	}
	return ctl.NewRequested("db purge", id, expires), err
}
