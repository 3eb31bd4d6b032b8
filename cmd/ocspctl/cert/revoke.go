package cert

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/crypto/ocsp"
)

// revoke is cert revoke.
type revoke struct {
	cli.Change
	named
	waiting
	Reason string `flag:"reason" help:"the <NAME> of RFC 5280: keyCompromise, superseded, certificateHold, ..."`
	At     string `flag:"at" help:"the <TIME> of the revocation (default: now, by the master's clock)"`
}

func (revoke) Doc() cli.Doc {
	return cli.Doc{
		Name: "revoke", Short: "revoke a certificate; all but certificateHold is for ever",
		Long: `A hold may become permanent, and keyCompromise replaces another reason; nothing
else changes a revocation: who asks for another time or reason is told so. With
--wait it returns when every active site answers revoked to a real request, says
how long that took and until when caches may still hold a good; after --timeout it
ends with exit code 3 and names the silent site. The revocation stays in any case.

Over 100 revocations an hour, by all logins together, need a second person (the
number is the fleet's: ocspctl db limit; see ocspctl approval request bulk).`,
		Example: `
		ocspctl cert revoke --issuer web-ca --serial 5F03A1 --reason keyCompromise
		ocspctl cert revoke --issuer web-ca --serial 5F03A1 --reason keyCompromise --why 'ticket 4711' --apply
		ocspctl cert revoke --issuer web-ca --serial 5F03A1 --reason keyCompromise --wait --timeout 60s --apply`,
	}
}

func (v *revoke) Run(ctx context.Context, m *ctl.Master) error {
	reason, err := db.ParseReason(v.Reason)
	if err != nil {
		return cli.Usagef("--reason: %v", err)
	}
	var when time.Time
	if v.At != "" {
		if when, err = cli.ParseTime(v.At); err != nil {
			return err
		}
	}
	c, err := v.find(ctx, m)
	if err != nil {
		return err
	}
	var status db.Status
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (changed bool, err error) {
		if _, changed, err = store.Revoke(ctx, c.issuer.ID, c.serial, reason, when, act); err != nil {
			return false, err
		}
		if status, err = store.Certificate(ctx, c.issuer.ID, c.serial); err == nil {
			err = asAsked(status, reason, when)
		}
		return changed, err
	})
	if err != nil {
		return fmt.Errorf("revoking serial %s of issuer %q: %w", c.serial, c.issuer.Name, err)
	}
	return v.showChange(ctx, m, outcome, c, status, ocsp.Revoked)
}

// asAsked says why a revocation is not the requested one: it was made before, and cannot be taken
// back. Without a reason and a time any is right.
func asAsked(status db.Status, reason db.Reason, at time.Time) error {
	is := "no reason"
	if status.Reason != db.ReasonNone {
		is = status.Reason.String()
	}
	switch {
	case reason != db.ReasonNone && reason != status.Reason:
		return fmt.Errorf("it is revoked since %s, for %s: that stays (only keyCompromise replaces another reason; a revocation that was wrong: ocspctl cert correct)",
			cli.Stamp(status.RevokedAt), is)
	case !at.IsZero() && !at.Truncate(time.Second).Equal(status.RevokedAt):
		return fmt.Errorf("it is revoked since %s, for %s: the time stays (a revocation that was wrong: ocspctl cert correct)", cli.Stamp(status.RevokedAt), is)
	}
	return nil
}
