package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ocsp"

	"ocspfleet/db"
)

func (p *program) certHoldCommand() *cobra.Command {
	var c change
	var n named
	var w waiting
	cmd := p.verb("hold", "revoke a certificate for a time (certificateHold)", `
		ocspctl cert hold --issuer web-ca --serial 5F03A1
		ocspctl cert hold --issuer web-ca --serial 5F03A1 --why 'lost, perhaps found again' --wait --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if err := w.check(); err != nil {
				return err
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certHold(ctx, store, c, n, w) })
		})
	cmd.Long = `Every site answers "revoked" with the reason certificateHold until cert release
makes the certificate good again, or cert revoke with another reason makes the
revocation permanent. Issuers of profile br have no hold (BR section 4.9.13).
A hold counts as a revocation for the hourly limit (see ocspctl db limit).`
	n.flags(cmd)
	c.flags(cmd)
	w.flags(cmd)
	require(cmd, "issuer", "serial")
	return cmd
}

func (p *program) certHold(ctx context.Context, store *db.Store, c change, n named, w waiting) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, serial, err := n.find(ctx, store)
	if err != nil {
		return err
	}
	var status db.Status
	var changed bool
	err = store.Try(ctx, c.apply, func(store *db.Store) error {
		if _, changed, err = store.Hold(ctx, issuer.ID, serial, act); err == nil {
			status, err = store.Certificate(ctx, issuer.ID, serial)
		}
		return err
	})
	if err != nil {
		return err
	}
	shown := showStatus(issuer.Name, serial, status)
	if w.wait && c.apply {
		return p.changeAndWait(ctx, store, issuer, serial, ocsp.Revoked, certificateChange{outcome{"cert hold", true, changed}, shown}, w)
	}
	return p.printChange("cert hold", c.apply, changed, shown)
}

func (p *program) certReleaseCommand() *cobra.Command {
	var c change
	var n named
	var w waiting
	cmd := p.verb("release", "end a hold: the certificate is good again", `
		ocspctl cert release --issuer web-ca --serial 5F03A1
		ocspctl cert release --issuer web-ca --serial 5F03A1 --why 'found again' --wait --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if err := w.check(); err != nil {
				return err
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certRelease(ctx, store, c, n, w) })
		})
	cmd.Long = `Only a hold is released. A permanent revocation that was wrong is taken back by
two operators: see ocspctl cert correct.`
	n.flags(cmd)
	c.flags(cmd)
	w.flags(cmd)
	require(cmd, "issuer", "serial")
	return cmd
}

func (p *program) certRelease(ctx context.Context, store *db.Store, c change, n named, w waiting) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, serial, err := n.find(ctx, store)
	if err != nil {
		return err
	}
	var status db.Status
	var changed bool
	err = store.Try(ctx, c.apply, func(store *db.Store) error {
		if changed, err = store.Release(ctx, issuer.ID, serial, act); err == nil {
			status, err = store.Certificate(ctx, issuer.ID, serial)
		}
		return err
	})
	if err != nil {
		return err
	}
	shown := showStatus(issuer.Name, serial, status)
	if w.wait && c.apply {
		return p.changeAndWait(ctx, store, issuer, serial, ocsp.Good, certificateChange{outcome{"cert release", true, changed}, shown}, w)
	}
	return p.printChange("cert release", c.apply, changed, shown)
}
