package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

func (p *program) crlCommand() *cobra.Command {
	return cli.Noun("crl", "the CRLs of responder certificates, served by every site at /crl/NAME", p.crlIssueCommand(), p.crlShowCommand(), p.crlBundleCommand(), p.crlReleaseCommand())
}

// crlIssue holds the flags of crl issue.
type crlIssue struct {
	change
	issuers []string
	life    time.Duration
	out     string
}

func (p *program) crlIssueCommand() *cobra.Command {
	var c crlIssue
	cmd := p.Command("issue", "sign the CRL of each issuer's responder certificates anew, for all sites to serve", `
		ocspctl crl issue
		ocspctl crl issue --issuer web-ca --out crls --why 'timer' --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.crlIssue(ctx, store, cfg, c) })
		})
	f := cmd.Flags()
	f.StringArrayVar(&c.issuers, "issuer", nil, "an issuer's `NAME`; may stand several times (default: all with a crl_url or crl_scope in this configuration)")
	f.DurationVar(&c.life, "life", fleet.CRLLife, "from thisUpdate to nextUpdate (max_staleness to 240h)")
	f.StringVar(&c.out, "out", "", "write the CRLs to `DIR`, too, as NAME.crl (DER)")
	c.flags(cmd)
	return cmd
}

// listView is a CRL as ocspctl shows it.
type listView struct {
	Issuer     string  `json:"issuer"`
	Number     *string `json:"number"` // null: not signed yet
	ThisUpdate *string `json:"this_update"`
	NextUpdate *string `json:"next_update"`
	Entries    int     `json:"entries"`
	URL        *string `json:"url"` // of the distribution point; null: it speaks of all certificates
	File       *string `json:"file"`
}

func (v listView) tell(t *cli.Table) {
	t.Row(v.Issuer, cli.OrDash(v.Number), cli.OrDash(v.ThisUpdate), cli.OrDash(v.NextUpdate), strconv.Itoa(v.Entries), cli.OrDash(v.URL), cli.OrDash(v.File))
}

var crlColumns = []string{"ISSUER", "NUMBER", "THIS UPDATE", "NEXT UPDATE", "ENTRIES", "URL", "FILE"}

func viewList(issuer string, c fleet.CRLContent) listView {
	v := listView{Issuer: issuer, ThisUpdate: new(cli.Stamp(c.ThisUpdate)), NextUpdate: new(cli.Stamp(c.NextUpdate)), Entries: len(c.Entries), URL: cli.TextOrNil(c.URL)}
	if c.Number > 0 {
		v.Number = new(strconv.FormatInt(c.Number, 10))
	}
	return v
}

func (p *program) crlIssue(ctx context.Context, store *masterdb.DB, cfg *config.Config, c crlIssue) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	names := c.issuers
	var elsewhere []db.Issuer
	if len(names) == 0 {
		if names, err = issuersWithCRL(ctx, store, cfg, nil); err != nil {
			return err
		}
		issuers, err := store.Issuers(ctx)
		if err != nil {
			return err
		}
		elsewhere = slices.DeleteFunc(issuers, func(issuer db.Issuer) bool { return issuer.Policy.CRLURL == "" || slices.Contains(names, issuer.Name) })
		if len(names) == 0 && len(elsewhere) == 0 {
			return fmt.Errorf("no issuer has a crl_url (or crl_scope: all) and a CA key in this configuration: set issuers.NAME.crl_url")
		}
		if len(names) == 0 {
			return keysElsewhere("CRL", elsewhere)
		}
	}
	result := struct {
		cli.Outcome
		CRLs []listView `json:"crls"`
	}{Outcome: cli.NewOutcome("crl issue", c.apply, true)}
	return p.withAuthoritiesAtHand(ctx, store, cfg, names, func(authorities []*fleet.Authority, unnamed []db.Issuer, fault error) error {
		faults := []error{fault}
		for _, a := range authorities {
			line, err := c.one(ctx, store, a, act)
			if err != nil {
				faults = append(faults, err) // the others are issued all the same
				continue
			}
			result.CRLs = append(result.CRLs, line)
		}
		err := p.Print(result, func(t *cli.Table) {
			t.Row(append([]string{}, crlColumns...)...)
			for _, line := range result.CRLs {
				line.tell(t)
			}
			result.Outcome.Tell(t)
		})
		if err := errors.Join(append(faults, err)...); err != nil {
			return err
		}
		return keysElsewhere("CRL", append(elsewhere, unnamed...))
	})
}

// one drafts or issues the CRL of one issuer.
func (c *crlIssue) one(ctx context.Context, store *masterdb.DB, a *fleet.Authority, act db.Act) (listView, error) {
	if !c.apply {
		content, _, err := a.NextCRL(ctx, store, c.life)
		return viewList(a.Issuer.Name, content), err
	}
	content, der, err := fleet.IssueCRL(ctx, store, a, c.life, rand.Reader, act)
	if err != nil {
		return listView{}, err
	}
	line := viewList(a.Issuer.Name, content)
	if c.out == "" {
		return line, nil
	}
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return listView{}, fmt.Errorf("writing the CRL: %w", err)
	}
	path := filepath.Join(c.out, a.Issuer.Name+".crl")
	if err := fleet.WritePrivate(path, der); err != nil {
		return listView{}, fmt.Errorf("writing the CRL: %w", err)
	}
	line.File = &path
	return line, nil
}

// issuersWithCRL are the names of those whose CA signs CRLs by this configuration; of,
// unless nil, picks among them.
func issuersWithCRL(ctx context.Context, store *masterdb.DB, cfg *config.Config, of func(db.Issuer) bool) ([]string, error) {
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, issuer := range issuers {
		if ca, ours := cfg.Issuers[issuer.Name]; ours && ca.SignsCRLs() && (of == nil || of(issuer)) {
			names = append(names, issuer.Name)
		}
	}
	return names, nil
}

// crlStep issues the CRLs that a withdrawal changes. nil: no CA key is at hand.
func (p *program) crlStep(ctx context.Context, store *masterdb.DB, cfg *config.Config, site siteView, act db.Act) (func(context.Context) (string, error), error) {
	names, err := issuersWithCRL(ctx, store, cfg, func(issuer db.Issuer) bool {
		for _, c := range site.Certificates {
			if c.Issuer == issuer.Name {
				return true
			}
		}
		return false
	})
	if err != nil || len(cfg.Issuers) == 0 {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		if len(names) == 0 {
			return "no issuer of it has a crl_url", nil
		}
		var issued []string
		err := p.withAuthorities(ctx, store, cfg, names, func(authorities []*fleet.Authority) error {
			var faults []error
			for _, a := range authorities {
				content, _, err := fleet.IssueCRL(ctx, store, a, fleet.CRLLife, rand.Reader, act)
				if err != nil {
					faults = append(faults, err)
					continue
				}
				issued = append(issued, fmt.Sprintf("%s number %d", a.Issuer.Name, content.Number))
			}
			return errors.Join(faults...)
		})
		return strings.Join(issued, ", "), err
	}, nil
}

func (p *program) crlShowCommand() *cobra.Command {
	return p.Command("show", "show the CRLs that the sites serve; exit code 3 when one is overdue", "ocspctl crl show", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.crlShow(ctx, store) })
		})
}

func (p *program) crlShow(ctx context.Context, store *masterdb.DB) error {
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	views := []listView{}
	var wrong []string
	for _, issuer := range issuers {
		if len(issuer.CRL) == 0 {
			if issuer.Policy.CRLURL != "" && issuer.Policy.Profile == db.ProfileRevocable {
				wrong = append(wrong, issuer.Name+" has none yet")
				views = append(views, listView{Issuer: issuer.Name, URL: &issuer.Policy.CRLURL})
			}
			continue
		}
		list, err := x509.ParseRevocationList(issuer.CRL)
		if err != nil {
			return fmt.Errorf("reading the CRL of issuer %q: %w", issuer.Name, err)
		}
		views = append(views, listView{
			issuer.Name, new(list.Number.String()), new(cli.Stamp(list.ThisUpdate)), new(cli.Stamp(list.NextUpdate)), len(list.RevokedCertificateEntries),
			cli.TextOrNil(issuer.Policy.CRLURL), nil,
		})
		fault, err := p.judgeCRL(ctx, store, issuer, list)
		if err != nil {
			return err
		}
		if fault != "" {
			wrong = append(wrong, fmt.Sprintf("that of %s %s", issuer.Name, fault))
		}
	}
	err = p.Print(map[string]any{"crls": views}, func(t *cli.Table) {
		t.Row(append([]string{}, crlColumns...)...)
		for _, v := range views {
			v.tell(t)
		}
	})
	if err == nil && len(wrong) > 0 {
		err = cli.Wrongf("CRLs: %s: ocspctl crl issue --apply (or, for a CA without a network, crl bundle)", strings.Join(wrong, "; "))
	}
	return err
}

// judgeCRL says what is wrong with a published CRL; empty: nothing.
func (p *program) judgeCRL(ctx context.Context, store *masterdb.DB, issuer db.Issuer, list *x509.RevocationList) (string, error) {
	if fleet.ElsewhereCRL(list, issuer) {
		if issuer.Policy.CRLURL == "" { // it was given up: nothing is missed
			return "", nil
		}
		return "speaks for another place than " + issuer.Policy.CRLURL, nil
	}
	var faults []string
	left := list.NextUpdate.Sub(p.Now())
	if left < list.NextUpdate.Sub(list.ThisUpdate)/2 {
		faults = append(faults, fmt.Sprintf("has %s left, less than half of its life", cli.Span(left)))
	}
	gap, err := p.crlGap(ctx, store, issuer, list.Raw)
	if gap != "" {
		faults = append(faults, gap)
	}
	return strings.Join(faults, ", "), err
}
