package responder

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/issuance"
)

// show is responder show.
type show struct {
	Site string `arg:"SITE"`
}

func (show) Doc() cli.Doc {
	return cli.Doc{
		Name: "show", Short: "show one site: certificates, life left, access; exit code 3 when a certificate needs renewal",
		Long: `Shows a site's certificates with the part of their life that is left, what is
planned for an offline CA, and how its replication stands at the master.`,
		Example: `
		ocspctl responder show site-b
		ocspctl responder show site-b --output json`,
	}
}

// line is a certificate of the site, or a planned one, for people.
type line struct{ issuer, serial, status, notBefore, notAfter, left, key string }

func (l line) record() cli.Record {
	return cli.Record{
		cli.F("", "ISSUER", l.issuer), cli.F("", "SERIAL", l.serial), cli.F("", "STATUS", l.status), cli.F("", "NOT BEFORE", l.notBefore),
		cli.F("", "NOT AFTER", l.notAfter), cli.F("", "LIFE LEFT", l.left), cli.F("", "KEY", l.key),
	}
}

func (v *show) Run(ctx context.Context, m *ctl.Master) error {
	s, err := find(ctx, m, v.Site)
	if err != nil {
		return err
	}
	access, err := m.Store.SiteAccess(ctx, s.Name)
	if err != nil {
		return err
	}
	planned, err := v.planned(ctx, m)
	if err != nil {
		return err
	}
	var lines []line
	lives := map[string]cli.Record{}  // by serial: the remaining part of its life, 1 new, 0 ended
	best := map[db.IssuerID]float64{} // the remaining part of the newest
	for _, c := range s.certificates {
		parsed, err := x509.ParseCertificate(c.of.DER)
		if err != nil {
			return fmt.Errorf("reading certificate %s: %w", c.Serial, err)
		}
		left := float64(parsed.NotAfter.Sub(m.Now())) / float64(parsed.NotAfter.Sub(parsed.NotBefore))
		lives[c.Serial] = cli.Record{cli.F("not_before", "", parsed.NotBefore), cli.F("life_left", "", left)}
		lines = append(lines, line{c.Issuer, c.Serial, c.status(), cli.Stamp(parsed.NotBefore), cli.OrDash(c.NotAfter), fmt.Sprintf("%.0f %%", 100*max(0, left)), fmt.Sprintf("%x", c.of.KeyHash)})
		if !c.of.Status.Revoked {
			best[c.of.IssuerID] = max(best[c.of.IssuerID], left)
		}
	}
	for _, p := range planned {
		lines = append(lines, line{p.issuer, p.Serial.String(), "planned", cli.Stamp(p.NotBefore), cli.Stamp(p.NotAfter), "-", "-"})
	}
	if err := m.Show(cli.Quiet(s.record()), cli.Quiet(cli.Object("access", cli.Record{
		cli.F("login", "", cli.OrNil(access.Login)), cli.F("open", "", access.Open), cli.F("sessions", "", access.Sessions), cli.F("slots", "", access.Slots),
	})), cli.Record{
		cli.F("", "site", s.Name), cli.F("", "url", s.URL), cli.F("", "addresses", s.Addresses), cli.F("", "state", s.State),
		cli.F("", "replication", replication(access)), cli.F("lives", "", lives),
	}, cli.Quiet(cli.List("planned", planned, plan.record)), cli.Below(cli.List("", lines, line.record))); err != nil {
		return err
	}
	switch {
	case s.State != db.ResponderActive:
		return nil
	case len(best) == 0:
		return cli.Wrongf("site %s has no certificate that is good: ocspctl responder add", s.Name)
	case slices.Min(slices.Collect(maps.Values(best))) < issuance.Alarm:
		return cli.Wrongf("site %s: a certificate has less than a third of its life left: ocspctl fleet renew --apply, and look at its timer", s.Name)
	}
	return nil
}

// replication returns a site's access for people.
func replication(a masterdb.Access) string {
	if a.Login == "" {
		return "no login"
	}
	is := "closed"
	if a.Open {
		is = "open"
	}
	return fmt.Sprintf("login %s %s, %d sessions, %d slots", a.Login, is, a.Sessions, a.Slots)
}

// plan is a certificate that is registered for an offline CA, and not released.
type plan struct {
	masterdb.Planned
	issuer string
}

func (p plan) record() cli.Record {
	return cli.Record{cli.F("issuer", "", p.issuer), cli.F("serial", "", p.Serial), cli.F("not_before", "", p.NotBefore), cli.F("not_after", "", p.NotAfter)}
}

// planned returns the planned certificates of the site.
func (v *show) planned(ctx context.Context, m *ctl.Master) ([]plan, error) {
	all, err := m.Store.PlannedCertificates(ctx)
	if err != nil {
		return nil, err
	}
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	var plans []plan
	for _, c := range all {
		if c.Site != v.Site {
			continue
		}
		p := plan{Planned: c}
		for _, issuer := range issuers {
			if issuer.ID == c.IssuerID {
				p.issuer = issuer.Name
			}
		}
		plans = append(plans, p)
	}
	return plans, nil
}
