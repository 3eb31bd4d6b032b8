package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

func (p *program) certHoldCommand() *cobra.Command {
	var c change
	var n named
	cmd := p.verb("hold", "revoke a certificate for a time (certificateHold)", `
		ocspctl cert hold --issuer web-ca --serial 5F03A1
		ocspctl cert hold --issuer web-ca --serial 5F03A1 --why 'lost, perhaps found again' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certHold(ctx, store, c, n) })
		})
	cmd.Long = `Every site answers "revoked" with the reason certificateHold until cert release
makes the certificate good again, or cert revoke with another reason makes the
revocation permanent. Issuers of profile br have no hold (BR section 4.9.13).
A hold counts as a revocation for the hourly limit (see ocspctl db limit).`
	n.flags(cmd)
	c.flags(cmd)
	require(cmd, "issuer", "serial")
	return cmd
}

func (p *program) certHold(ctx context.Context, store *db.Store, c change, n named) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, serial, err := n.find(ctx, store)
	if err != nil {
		return err
	}
	status, err := store.Certificate(ctx, issuer.ID, serial)
	switch {
	case err != nil:
		return fmt.Errorf("holding serial %s of issuer %q: %w", serial, issuer.Name, err)
	case issuer.Policy.Profile == db.ProfileBR:
		return fmt.Errorf("holding serial %s: issuer %q has profile br, which forbids certificateHold (BR section 4.9.13)", serial, issuer.Name)
	case status.Permanent():
		return fmt.Errorf("holding serial %s: it is revoked for ever since %s", serial, stamp(status.RevokedAt))
	}
	changed := !status.Revoked()
	if changed {
		status.RevokedAt, status.Reason = p.now(), db.ReasonCertificateHold
	}
	if c.apply {
		if status.RevokedAt, changed, err = store.Hold(ctx, issuer.ID, serial, act); err != nil {
			return err
		}
	}
	return p.printChange("cert hold", c.apply, changed, showStatus(issuer.Name, serial, status))
}

func (p *program) certReleaseCommand() *cobra.Command {
	var c change
	var n named
	cmd := p.verb("release", "end a hold: the certificate is good again", `
		ocspctl cert release --issuer web-ca --serial 5F03A1
		ocspctl cert release --issuer web-ca --serial 5F03A1 --why 'found again' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certRelease(ctx, store, c, n) })
		})
	cmd.Long = `Only a hold is released. A permanent revocation that was wrong is taken back by
two operators: see ocspctl cert correct.`
	n.flags(cmd)
	c.flags(cmd)
	require(cmd, "issuer", "serial")
	return cmd
}

func (p *program) certRelease(ctx context.Context, store *db.Store, c change, n named) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, serial, err := n.find(ctx, store)
	if err != nil {
		return err
	}
	status, err := store.Certificate(ctx, issuer.ID, serial)
	switch {
	case err != nil:
		return fmt.Errorf("releasing serial %s of issuer %q: %w", serial, issuer.Name, err)
	case status.Permanent():
		return fmt.Errorf("releasing serial %s: it is revoked for ever since %s, only a hold is released (a wrong revocation: ocspctl cert correct)",
			serial, stamp(status.RevokedAt))
	}
	changed := status.Revoked()
	if c.apply {
		if changed, err = store.Release(ctx, issuer.ID, serial, act); err != nil {
			return err
		}
	}
	return p.printChange("cert release", c.apply, changed, showStatus(issuer.Name, serial, db.Status{NotAfter: status.NotAfter, Reason: db.ReasonNone}))
}
