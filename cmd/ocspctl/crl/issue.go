package crl

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"
)

// issue is crl issue.
type issue struct {
	cli.Change
	Issuers []string      `flag:"issuer" help:"an issuer's <NAME>; may stand several times (default: all with a crl_url or crl_scope in this configuration)"`
	Life    time.Duration `flag:"life" help:"from thisUpdate to nextUpdate (max_staleness to 240h)"`
	Out     string        `flag:"out" help:"write the CRLs to <DIR>, too, as NAME.crl (DER)"`
}

func (issue) Doc() cli.Doc {
	return cli.Doc{
		Name: "issue", Short: "sign the CRL of each issuer's responder certificates anew, for all sites to serve",
		Long: `The CRL speaks of the sites' responder certificates alone, and says so by a critical
issuingDistributionPoint equal to the certificates' own. It is put into the issuer's
row and travels with it; every site serves it at /crl/NAME. Its number comes from the
database; an entry stays until one CRL after its certificate's end; nextUpdate lies
beyond the longest outage budget. Exit code 3 when an issuer has a crl_url and its key is
elsewhere; the others' CRLs are issued. responder revoke issues it by itself; run this once
a day besides. The scope comes from this machine's own configuration (issuers.NAME:
crl_url, or crl_scope: all for one of all the issuer's certificates), which the master's
crl_url must equal. What the last CRL named for ever stays until it has ended: the CA
remembers it beside its key (issuers.NAME.state).`,
		Example: `
		ocspctl crl issue
		ocspctl crl issue --issuer web-ca --out crls --why 'timer' --apply`,
	}
}

func (v *issue) Run(ctx context.Context, m *ctl.Master) error {
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	names := v.Issuers
	var elsewhere []db.Issuer
	if len(names) == 0 {
		if names, err = ca.IssuersWithCRL(ctx, m, nil); err != nil {
			return err
		}
		issuers, err := m.Store.Issuers(ctx)
		if err != nil {
			return err
		}
		elsewhere = slices.DeleteFunc(issuers, func(issuer db.Issuer) bool { return issuer.Policy.CRLURL == "" || slices.Contains(names, issuer.Name) })
		if len(names) == 0 && len(elsewhere) == 0 {
			return errors.New("no issuer has a crl_url (or crl_scope: all) and a CA key in this configuration: set issuers.NAME.crl_url")
		}
		if len(names) == 0 {
			return ca.Elsewhere("CRL", elsewhere)
		}
	}
	return ca.AtHand(ctx, m, names, func(authorities []*issuance.Authority, unnamed []db.Issuer, fault error) error {
		faults := []error{fault}
		var lists []list
		for _, a := range authorities {
			one, err := v.one(ctx, m, a, act)
			if err != nil {
				faults = append(faults, err) // the others are issued all the same
				continue
			}
			lists = append(lists, one)
		}
		err := m.ShowChange(v.Outcome(true), cli.List("crls", lists, list.record))
		if err := errors.Join(append(faults, err)...); err != nil {
			return err
		}
		return ca.Elsewhere("CRL", append(elsewhere, unnamed...))
	})
}

// one drafts or issues the CRL of one issuer.
func (v *issue) one(ctx context.Context, m *ctl.Master, a *issuance.Authority, act db.Act) (list, error) {
	if !v.Apply {
		content, _, err := a.NextCRL(ctx, m.Store, v.Life)
		return newList(a, content), err
	}
	content, der, err := issuance.IssueCRL(ctx, m.Store, a, v.Life, rand.Reader, act)
	if err != nil {
		return list{}, err
	}
	l := newList(a, content)
	if v.Out == "" {
		return l, nil
	}
	if err = os.MkdirAll(v.Out, 0o755); err == nil {
		l.file = filepath.Join(v.Out, a.Issuer.Name+".crl")
		err = issuance.WritePrivate(l.file, der)
	}
	if err != nil {
		return list{}, fmt.Errorf("writing the CRL: %w", err)
	}
	return l, nil
}

func newList(a *issuance.Authority, c issuance.CRLContent) list {
	return list{CRLContent: c, issuer: a.Issuer.Name, number: ca.Number(c.Number), entries: len(c.Entries)}
}
