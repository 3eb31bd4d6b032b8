package crl

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"
)

// show is crl show.
type show struct{}

func (show) Doc() cli.Doc {
	return cli.Doc{
		Name: "show", Short: "show the CRLs that the sites serve; exit code 3 when one is overdue",
		Long: `Shows number, times and entries of the CRL that each issuer's row holds. Exit code 3
when one is missing, past half of its life, or does not name what is revoked now.`,
		Example: "ocspctl crl show",
	}
}

func (show) Run(ctx context.Context, m *ctl.Master) error {
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return err
	}
	var lists []list
	var wrong []string
	for _, issuer := range issuers {
		l := list{issuer: issuer.Name, CRLContent: issuance.CRLContent{URL: issuer.Policy.CRLURL}}
		if len(issuer.CRL) == 0 {
			if l.URL != "" && issuer.Policy.Profile == db.ProfileRevocable {
				wrong = append(wrong, issuer.Name+" has none yet")
				lists = append(lists, l)
			}
			continue
		}
		crl, err := x509.ParseRevocationList(issuer.CRL)
		if err != nil {
			return fmt.Errorf("reading the CRL of issuer %q: %w", issuer.Name, err)
		}
		l.number, l.ThisUpdate, l.NextUpdate, l.entries = crl.Number.String(), crl.ThisUpdate, crl.NextUpdate, len(crl.RevokedCertificateEntries)
		lists = append(lists, l)
		fault, err := judge(ctx, m, issuer, crl)
		if err != nil {
			return err
		}
		if fault != "" {
			wrong = append(wrong, fmt.Sprintf("that of %s %s", issuer.Name, fault))
		}
	}
	err = m.Show(cli.List("crls", lists, list.record))
	if err == nil && len(wrong) > 0 {
		err = cli.Wrongf("CRLs: %s: ocspctl crl issue --apply (or, for a CA without a network, crl bundle)", strings.Join(wrong, "; "))
	}
	return err
}

// judge says what is wrong with a published CRL; empty: nothing.
func judge(ctx context.Context, m *ctl.Master, issuer db.Issuer, crl *x509.RevocationList) (string, error) {
	if issuance.ElsewhereCRL(crl, issuer) {
		if issuer.Policy.CRLURL == "" { // it was given up: nothing is missed
			return "", nil
		}
		return "speaks for another place than " + issuer.Policy.CRLURL, nil
	}
	var faults []string
	left := crl.NextUpdate.Sub(m.Now())
	if left < crl.NextUpdate.Sub(crl.ThisUpdate)/2 {
		faults = append(faults, fmt.Sprintf("has %s left, less than half of its life", cli.Span(left)))
	}
	gap, err := gap(ctx, m, issuer, crl.Raw)
	if gap != "" {
		faults = append(faults, gap)
	}
	return strings.Join(faults, ", "), err
}
