package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

// purgeMargin is how long before the head's as_of a purge ends at the latest: to a
// site whose clock is behind, a revoked certificate would else be gone too early.
const purgeMargin = time.Hour

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
	earlier, err := p.checkPurge(ctx, store, issuer, before)
	if err != nil {
		return err
	}
	n, err := store.Purgeable(ctx, issuer.ID, before)
	if err != nil {
		return err
	}
	changed := n > 0 || !before.Equal(earlier)
	if c.apply {
		if _, err := store.MarkPurge(ctx, issuer.ID, before, act); err != nil {
			return err
		}
		if n, err = store.Purge(ctx, issuer.ID, act); err != nil {
			return err
		}
	}
	result := purge{
		outcome{"db purge", c.apply, changed}, issuer.Name, stamp(before), stampOrNil(earlier), string(issuer.Policy.NeverIssued), n,
	}
	return p.print(result, result.tell)
}

// checkPurge finds what the master would refuse, so that the plan says so, too.
func (p *program) checkPurge(ctx context.Context, store *db.Store, issuer db.Issuer, before time.Time) (earlier time.Time, err error) {
	if issuer.Policy.NeverIssued == db.NeverIssuedRevoked {
		return earlier, fmt.Errorf("issuer %q says revoked for serials that it never issued: it cannot be purged", issuer.Name)
	}
	head, err := store.Head(ctx)
	if err != nil {
		return earlier, err
	}
	if before.After(head.AsOf.Add(-purgeMargin)) {
		return earlier, usagef("--before %s: want %s at the latest, an hour before the head's as_of", stamp(before), stamp(head.AsOf.Add(-purgeMargin)))
	}
	if earlier, err = store.PurgedBefore(ctx, issuer.ID); err != nil {
		return earlier, err
	}
	if before.Before(earlier) {
		return earlier, usagef("--before %s: issuer %s was purged up to %s already", stamp(before), issuer.Name, stamp(earlier))
	}
	return earlier, nil
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
