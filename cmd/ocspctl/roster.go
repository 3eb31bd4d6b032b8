package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
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
	certificate
	Fingerprint string `json:"fingerprint"`     // SHA-256 of the certificate
	Key         string `json:"key_fingerprint"` // SHA-256 of the SubjectPublicKeyInfo
	Expired     bool   `json:"expired"`

	left time.Duration
}

func viewSites(roster []db.Responder, issuers []db.Issuer, now time.Time) []siteView {
	names := map[db.IssuerID]string{}
	for _, issuer := range issuers {
		names[issuer.ID] = issuer.Name
	}
	views := make([]siteView, len(roster))
	for i, r := range roster {
		views[i] = siteView{r.Name, r.URL, append([]string{}, r.Addresses...), string(r.State), textOrNil(hex.EncodeToString(r.FeedPin)), []siteCertificate{}}
		for _, c := range r.Certificates {
			left := c.Status.NotAfter.Sub(now)
			views[i].Certificates = append(views[i].Certificates, siteCertificate{
				showStatus(names[c.IssuerID], c.Serial, c.Status), hex.EncodeToString(c.Fingerprint[:]), hex.EncodeToString(c.KeyHash[:]), left <= 0, left,
			})
		}
	}
	return views
}

func (p *program) responderListCommand() *cobra.Command {
	var all bool
	cmd := p.verb("list", "show the sites and their certificates", `
		ocspctl responder list
		ocspctl responder list --all --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.responderList(ctx, store, all) })
		})
	cmd.Flags().BoolVar(&all, "all", false, "show expired certificates, too")
	return cmd
}

func (p *program) responderList(ctx context.Context, store *db.Store, all bool) error {
	roster, err := store.Responders(ctx)
	if err != nil {
		return err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	views := viewSites(roster, issuers, p.now())
	if !all {
		for i := range views {
			views[i].Certificates = slices.DeleteFunc(views[i].Certificates, func(c siteCertificate) bool { return c.Expired })
		}
	}
	return p.print(map[string]any{"sites": views}, func(t *table) {
		t.row("SITE", "STATE", "URL", "ISSUER", "SERIAL", "STATUS", "NOT AFTER", "LEFT")
		for _, v := range views {
			if len(v.Certificates) == 0 {
				t.row(v.Name, v.State, v.URL, "-", "-", "no certificate", "-", "-")
			}
			for _, c := range v.Certificates {
				status := c.Status
				if c.Reason != nil {
					status += " " + *c.Reason
				}
				t.row(v.Name, v.State, v.URL, c.Issuer, c.Serial, status, orDash(c.NotAfter), span(c.left))
			}
		}
	})
}

func (p *program) responderRevokeCommand() *cobra.Command {
	var c change
	var reason string
	var force bool
	cmd := p.verb("revoke SITE", "revoke all certificates of a site for ever, and ban its keys", `
		ocspctl responder revoke site-b --reason keyCompromise
		ocspctl responder revoke site-b --reason keyCompromise --why 'broken into on Sunday' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error {
				return p.responderRevoke(ctx, store, c, args[0], reason, force)
			})
		})
	cmd.Flags().StringVar(&reason, "reason", "", "the `NAME` of RFC 5280: keyCompromise, cessationOfOperation, superseded, ...")
	cmd.Flags().BoolVar(&force, "force", false, "do it even to the last active site")
	c.flags(cmd)
	require(cmd, "reason")
	return cmd
}

// siteRevoked is what responder revoke prints.
type siteRevoked struct {
	outcome
	Site         string            `json:"site"`
	Reason       *string           `json:"reason"`
	Certificates []siteCertificate `json:"certificates"` // unexpired ones; without --apply as they are now
}

func (p *program) responderRevoke(ctx context.Context, store *db.Store, c change, site, reasonName string, force bool) error {
	reason, err := db.ParseReason(reasonName)
	if err != nil {
		return usagef("--reason: %v", err)
	}
	if reason == db.ReasonCertificateHold {
		return usagef("--reason certificateHold: a site is revoked for ever")
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	view, last, err := p.site(ctx, store, site)
	if err != nil {
		return err
	}
	if last && !force {
		return fmt.Errorf("site %q is the last active one: nobody would answer any more (--force does it nevertheless)", site)
	}
	result := siteRevoked{
		outcome: outcome{"responder revoke", c.apply, view.State != string(db.ResponderRevoked) || anyGood(view)},
		Site:    site, Reason: textOrNil(reason.String()),
	}
	if c.apply {
		if _, err := store.RevokeResponder(ctx, site, reason, act); err != nil {
			return err
		}
		if view, _, err = p.site(ctx, store, site); err != nil {
			return err
		}
	}
	result.Certificates = slices.DeleteFunc(view.Certificates, func(c siteCertificate) bool { return c.Expired })
	return p.print(result, func(t *table) {
		t.row("site", site)
		t.row("reason", orDash(result.Reason))
		t.line("")
		t.row("ISSUER", "SERIAL", "STATUS", "NOT AFTER")
		for _, c := range result.Certificates {
			t.row(c.Issuer, c.Serial, c.brief(), orDash(c.NotAfter))
		}
		result.outcome.tell(t)
	})
}

func anyGood(v siteView) bool {
	return slices.ContainsFunc(v.Certificates, func(c siteCertificate) bool { return !c.Expired && c.Status == "good" })
}

// site finds one site, and whether it is the only active one.
func (p *program) site(ctx context.Context, store *db.Store, name string) (siteView, bool, error) {
	roster, err := store.Responders(ctx)
	if err != nil {
		return siteView{}, false, err
	}
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return siteView{}, false, err
	}
	views := viewSites(roster, issuers, p.now())
	at := slices.IndexFunc(views, func(v siteView) bool { return v.Name == name })
	if at < 0 {
		return siteView{}, false, fmt.Errorf("site %q: %w (ocspctl responder list shows the sites)", name, db.ErrNoResponder)
	}
	active := func(v siteView) bool { return v.State == string(db.ResponderActive) }
	others := slices.ContainsFunc(views, func(v siteView) bool { return v.Name != name && active(v) })
	return views[at], active(views[at]) && !others, nil
}
