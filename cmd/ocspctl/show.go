package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

func (p *program) responderShowCommand() *cobra.Command {
	return p.Command("show SITE", "show one site: certificates, life left, access; exit code 3 when a certificate needs renewal", `
		ocspctl responder show site-b
		ocspctl responder show site-b --output json`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.responderShow(ctx, store, args[0]) })
		})
}

// siteShown is what responder show prints.
type siteShown struct {
	siteView
	Access  accessView      `json:"access"`
	Lives   map[string]life `json:"lives"`   // by serial
	Planned []plannedView   `json:"planned"` // registered for an offline CA, not released
}

// life is how much of a certificate's life is left.
type life struct {
	NotBefore string  `json:"not_before"`
	Left      float64 `json:"life_left"` // part of it: 1 new, 0 ended
}

type accessView struct {
	Login    *string `json:"login"` // of native replication; null: none
	Open     bool    `json:"open"`
	Sessions int64   `json:"sessions"`
	Slots    int64   `json:"slots"`
}

type plannedView struct {
	Issuer    string `json:"issuer"`
	Serial    string `json:"serial"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
}

func (p *program) responderShow(ctx context.Context, store *masterdb.DB, name string) error {
	roster, err := store.Responders(ctx)
	if err != nil {
		return err
	}
	view, err := p.site(ctx, store, name)
	if err != nil {
		return err
	}
	shown := siteShown{siteView: view, Lives: map[string]life{}, Planned: []plannedView{}}
	access, err := store.SiteAccess(ctx, name)
	if err != nil {
		return err
	}
	shown.Access = accessView{cli.TextOrNil(access.Login), access.Open, access.Sessions, access.Slots}
	if err := shown.plan(ctx, store, name); err != nil {
		return err
	}
	best := map[string]float64{} // per issuer and key: what the newest has left
	for _, r := range roster {
		for _, c := range r.Certificates {
			if r.Name != name {
				continue
			}
			parsed, err := x509.ParseCertificate(c.DER)
			if err != nil {
				return fmt.Errorf("reading certificate %s: %w", c.Serial, err)
			}
			left := float64(parsed.NotAfter.Sub(p.Now())) / float64(parsed.NotAfter.Sub(parsed.NotBefore))
			shown.Lives[c.Serial.String()] = life{cli.Stamp(parsed.NotBefore), left}
			if c.Status.Revoked {
				continue
			}
			key := strconv.Itoa(int(c.IssuerID))
			best[key] = max(best[key], left)
		}
	}
	if err := p.Print(shown, shown.tell); err != nil {
		return err
	}
	if view.State != string(db.ResponderActive) {
		return nil
	}
	for _, left := range best {
		if left < fleet.Alarm {
			return cli.Wrongf("site %s: a certificate has less than a third of its life left: ocspctl fleet renew --apply, and look at its timer", name)
		}
	}
	if len(best) == 0 {
		return cli.Wrongf("site %s has no certificate that is good: ocspctl responder add", name)
	}
	return nil
}

// plan fills in what is planned for the site.
func (s *siteShown) plan(ctx context.Context, store *masterdb.DB, name string) error {
	planned, err := store.PlannedCertificates(ctx)
	if err != nil {
		return err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, c := range planned {
		if c.Site != name {
			continue
		}
		view := plannedView{"", c.Serial.String(), cli.Stamp(c.NotBefore), cli.Stamp(c.NotAfter)}
		for _, issuer := range issuers {
			if issuer.ID == c.IssuerID {
				view.Issuer = issuer.Name
			}
		}
		s.Planned = append(s.Planned, view)
	}
	return nil
}

func (s siteShown) tell(t *cli.Table) {
	t.Row("site", s.Name)
	t.Row("url", s.URL)
	t.Row("addresses", strings.Join(s.Addresses, ", "))
	t.Row("state", s.State)
	switch {
	case s.Access.Login == nil:
		t.Row("replication", "no login")
	case s.Access.Open:
		t.Row("replication", fmt.Sprintf("login %s open, %d sessions, %d slots", *s.Access.Login, s.Access.Sessions, s.Access.Slots))
	default:
		t.Row("replication", fmt.Sprintf("login %s closed, %d sessions, %d slots", *s.Access.Login, s.Access.Sessions, s.Access.Slots))
	}
	t.Line("")
	t.Row("ISSUER", "SERIAL", "STATUS", "NOT BEFORE", "NOT AFTER", "LIFE LEFT", "KEY")
	for _, c := range s.Certificates {
		l := s.Lives[c.Serial]
		t.Row(c.Issuer, c.Serial, c.tellStatus(), l.NotBefore, cli.OrDash(c.NotAfter), fmt.Sprintf("%.0f %%", 100*max(0, l.Left)), c.Key)
	}
	for _, c := range s.Planned {
		t.Row(c.Issuer, c.Serial, "planned", c.NotBefore, c.NotAfter, "-", "-")
	}
}
