package ca

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"
)

// With opens the CA keys of the named issuers, or of all that the master has, and calls do to sign
// with them. It fails before any signature if a key is not at hand.
func With(ctx context.Context, m *ctl.Master, names []string, do func([]*issuance.Authority) error) error {
	return AtHand(ctx, m, names, func(authorities []*issuance.Authority, elsewhere []db.Issuer, fault error) error {
		if fault == nil && len(elsewhere) > 0 {
			fault = fmt.Errorf("the configuration names no CA key for issuer %q: set issuers.%s, or choose others with --issuer", elsewhere[0].Name, elsewhere[0].Name)
		}
		if fault != nil {
			return fault
		}
		return do(authorities)
	})
}

// AtHand is With for a verb that can do without some keys: do also gets the issuers whose key is
// elsewhere, and why keys that belong here were not opened.
func AtHand(ctx context.Context, m *ctl.Master, names []string, do func(at []*issuance.Authority, elsewhere []db.Issuer, fault error) error) error {
	issuers, err := ctl.IssuersNamed(ctx, m.Store, names)
	if err != nil {
		return err
	}
	keys := NewKeys(m.Program, m.Config)
	var authorities []*issuance.Authority
	var elsewhere []db.Issuer
	var faults []error
	for _, issuer := range issuers {
		at, ours := m.Config.Issuers[issuer.Name]
		if !ours {
			elsewhere = append(elsewhere, issuer)
			continue
		}
		authority, err := keys.authority(ctx, issuer, at)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		authorities = append(authorities, authority)
	}
	return errors.Join(do(authorities, elsewhere, errors.Join(faults...)), keys.Close())
}

// Elsewhere returns the final error of a verb that could not act for some issuers; nil: it acted
// for all.
func Elsewhere(action string, issuers []db.Issuer) error {
	if len(issuers) == 0 {
		return nil
	}
	names := make([]string, len(issuers))
	for i, issuer := range issuers {
		names[i] = issuer.Name
	}
	return cli.Wrongf("no %s for %s: their CA keys are not in this configuration (issuers.NAME); --issuer chooses those that are", action, strings.Join(names, ", "))
}

// IssuersWithCRL returns the names of the issuers whose CA signs CRLs by this configuration; of,
// unless nil, selects among them.
func IssuersWithCRL(ctx context.Context, m *ctl.Master, of func(db.Issuer) bool) ([]string, error) {
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, issuer := range issuers {
		if ca, ours := m.Config.Issuers[issuer.Name]; ours && ca.SignsCRLs() && (of == nil || of(issuer)) {
			names = append(names, issuer.Name)
		}
	}
	return names, nil
}
