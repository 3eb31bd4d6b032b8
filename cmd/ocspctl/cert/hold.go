package cert

import (
	"context"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/crypto/ocsp"
)

// hold is cert hold.
type hold struct {
	cli.Change
	named
	waiting
}

func (hold) Doc() cli.Doc {
	return cli.Doc{
		Name: "hold", Short: "revoke a certificate for a time (certificateHold)",
		Long: `Every site answers "revoked" with the reason certificateHold until cert release
makes the certificate good again, or cert revoke with another reason makes the
revocation permanent. Issuers of profile br have no hold (BR section 4.9.13).
A hold counts as a revocation for the hourly limit (see ocspctl db limit).`,
		Example: `
		ocspctl cert hold --issuer web-ca --serial 5F03A1
		ocspctl cert hold --issuer web-ca --serial 5F03A1 --why 'lost, perhaps found again' --wait --apply`,
	}
}

func (v *hold) Run(ctx context.Context, m *ctl.Master) error {
	c, err := v.find(ctx, m)
	if err != nil {
		return err
	}
	var status db.Status
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (changed bool, err error) {
		if _, changed, err = store.Hold(ctx, c.issuer.ID, c.serial, act); err == nil {
			status, err = store.Certificate(ctx, c.issuer.ID, c.serial)
		}
		return changed, err
	})
	if err != nil {
		return err
	}
	return v.showChange(ctx, m, outcome, c, status, ocsp.Revoked)
}

// release is cert release.
type release struct {
	cli.Change
	named
	waiting
}

func (release) Doc() cli.Doc {
	return cli.Doc{
		Name: "release", Short: "end a hold: the certificate is good again",
		Long: `Only a hold is released. A permanent revocation that was wrong is taken back by
two operators: see ocspctl cert correct.`,
		Example: `
		ocspctl cert release --issuer web-ca --serial 5F03A1
		ocspctl cert release --issuer web-ca --serial 5F03A1 --why 'found again' --wait --apply`,
	}
}

func (v *release) Run(ctx context.Context, m *ctl.Master) error {
	c, err := v.find(ctx, m)
	if err != nil {
		return err
	}
	var status db.Status
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (changed bool, err error) {
		if changed, err = store.Release(ctx, c.issuer.ID, c.serial, act); err == nil {
			status, err = store.Certificate(ctx, c.issuer.ID, c.serial)
		}
		return changed, err
	})
	if err != nil {
		return err
	}
	return v.showChange(ctx, m, outcome, c, status, ocsp.Good)
}
