package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"github.com/spf13/cobra"
)

// siteView is a site of the roster as ocspctl shows it.
type siteView struct {
	Name         string            `json:"name"`
	URL          string            `json:"url"`
	Addresses    []string          `json:"addresses"`
	State        string            `json:"state"`
	FeedPin      *string           `json:"feed_pin"` // SHA-256 of its feed key; null: it may not fetch the feed
	Certificates []siteCertificate `json:"certificates"`
}

type siteCertificate struct {
	ctl.Certificate
	Fingerprint string `json:"fingerprint"`     // SHA-256 of the certificate
	Key         string `json:"key_fingerprint"` // SHA-256 of the SubjectPublicKeyInfo
	Expired     bool   `json:"expired"`
	Withheld    bool   `json:"withheld"` // from the site, which is suspended (profile br)

	left time.Duration
}

// tellStatus is a site's certificate in few words.
func (c siteCertificate) tellStatus() string {
	if c.Withheld {
		return c.Brief() + ", withheld"
	}
	return c.Brief()
}

func viewSites(roster []masterdb.Responder, issuers []db.Issuer, now time.Time) []siteView {
	names := map[db.IssuerID]string{}
	for _, issuer := range issuers {
		names[issuer.ID] = issuer.Name
	}
	views := make([]siteView, len(roster))
	for i, r := range roster {
		views[i] = siteView{r.Name, r.URL, append([]string{}, r.Addresses...), string(r.State), cli.TextOrNil(hex.EncodeToString(r.FeedPin)), []siteCertificate{}}
		for _, c := range r.Certificates {
			left := c.Status.NotAfter.Sub(now)
			views[i].Certificates = append(views[i].Certificates, siteCertificate{
				ctl.ShowStatus(names[c.IssuerID], c.Serial, c.Status), hex.EncodeToString(c.Fingerprint[:]), hex.EncodeToString(c.KeyHash[:]), left <= 0, c.Withheld, left,
			})
		}
	}
	return views
}

func (p *program) responderListCommand() *cobra.Command {
	var all bool
	cmd := p.Command("list", "show the sites and their certificates", `
		ocspctl responder list
		ocspctl responder list --all --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.responderList(ctx, store, all) })
		})
	cmd.Flags().BoolVar(&all, "all", false, "show expired certificates, too")
	return cmd
}

func (p *program) responderList(ctx context.Context, store *masterdb.DB, all bool) error {
	roster, err := store.Responders(ctx)
	if err != nil {
		return err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	views := viewSites(roster, issuers, p.Now())
	if !all {
		for i := range views {
			views[i].Certificates = slices.DeleteFunc(views[i].Certificates, func(c siteCertificate) bool { return c.Expired })
		}
	}
	return p.Print(map[string]any{"sites": views}, func(t *cli.Table) {
		t.Row("SITE", "STATE", "URL", "ISSUER", "SERIAL", "STATUS", "NOT AFTER", "LEFT")
		for _, v := range views {
			if len(v.Certificates) == 0 {
				t.Row(v.Name, v.State, v.URL, "-", "-", "no certificate", "-", "-")
			}
			for _, c := range v.Certificates {
				status := c.Status
				if c.Reason != nil {
					status += " " + *c.Reason
				}
				if c.Withheld {
					status += ", withheld"
				}
				t.Row(v.Name, v.State, v.URL, c.Issuer, c.Serial, status, cli.OrDash(c.NotAfter), cli.Span(c.left))
			}
		}
	})
}

// site finds one site.
func (p *program) site(ctx context.Context, store *masterdb.DB, name string) (siteView, error) {
	roster, err := store.Responders(ctx)
	if err != nil {
		return siteView{}, err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return siteView{}, err
	}
	views := viewSites(roster, issuers, p.Now())
	at := slices.IndexFunc(views, func(v siteView) bool { return v.Name == name })
	if at < 0 {
		return siteView{}, fmt.Errorf("site %q: %w (ocspctl responder list shows the sites)", name, masterdb.ErrNoResponder)
	}
	return views[at], nil
}
