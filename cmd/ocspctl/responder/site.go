package responder

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// site is a site on the roster, with its certificates as they are shown.
type site struct {
	masterdb.Responder
	certificates []certificate
}

type certificate struct {
	ctl.Certificate
	of   masterdb.RosterCertificate
	left time.Duration // 0 or less: it has ended
}

// readSites reads the roster.
func readSites(ctx context.Context, m *ctl.Master) ([]site, error) {
	roster, err := m.Store.Responders(ctx)
	if err != nil {
		return nil, err
	}
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	names := map[db.IssuerID]string{}
	for _, issuer := range issuers {
		names[issuer.ID] = issuer.Name
	}
	all := make([]site, len(roster))
	for i, r := range roster {
		all[i].Responder = r
		for _, c := range r.Certificates {
			all[i].certificates = append(all[i].certificates, certificate{ctl.ShowStatus(names[c.IssuerID], c.Serial, c.Status), c, c.Status.NotAfter.Sub(m.Now())})
		}
	}
	return all, nil
}

// find returns one site.
func find(ctx context.Context, m *ctl.Master, name string) (site, error) {
	all, err := readSites(ctx, m)
	if err != nil {
		return site{}, err
	}
	at := slices.IndexFunc(all, func(s site) bool { return s.Name == name })
	if at < 0 {
		return site{}, fmt.Errorf("site %q: %w (ocspctl responder list shows the sites)", name, masterdb.ErrNoResponder)
	}
	return all[at], nil
}

// unexpired removes the certificates that have ended.
func (s *site) unexpired() {
	s.certificates = slices.DeleteFunc(s.certificates, func(c certificate) bool { return c.left <= 0 })
}

// record returns the site for programs; without a feed pin it may not fetch the feed.
func (s site) record() cli.Record {
	return cli.Record{
		cli.F("name", "", s.Name), cli.F("url", "", s.URL), cli.F("addresses", "", s.Addresses), cli.F("state", "", s.State),
		cli.F("feed_pin", "", cli.OrNil(fmt.Sprintf("%x", s.FeedPin))), cli.F("certificates", "", cli.Records(s.certificates, certificate.record)),
	}
}

// record returns the certificate for programs.
func (c certificate) record() cli.Record {
	return append(c.Certificate.Record(), cli.F("fingerprint", "", c.of.Fingerprint), cli.F("key_fingerprint", "", c.of.KeyHash),
		cli.F("expired", "", c.left <= 0), cli.F("withheld", "", c.of.Withheld))
}

// status returns a site's certificate in few words.
func (c certificate) status() string { return c.Brief() + c.withheld() }

// withheld returns a note if it is withheld from the site, which is suspended (profile br).
func (c certificate) withheld() string {
	if c.of.Withheld {
		return ", withheld"
	}
	return ""
}

// list is responder list.
type list struct {
	All bool `flag:"all" help:"show expired certificates, too"`
}

func (list) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "show the sites and their certificates",
		Long: `Shows every site with its certificates, revoked and expired ones included.`,
		Example: `
		ocspctl responder list
		ocspctl responder list --all --output json`,
	}
}

func (v *list) Run(ctx context.Context, m *ctl.Master) error {
	all, err := readSites(ctx, m)
	if err != nil {
		return err
	}
	var rows []place
	for i := range all {
		if !v.All {
			all[i].unexpired()
		}
		if len(all[i].certificates) == 0 {
			rows = append(rows, place{site: all[i]})
		}
		for _, c := range all[i].certificates {
			rows = append(rows, place{all[i], &c})
		}
	}
	return m.Show(cli.Quiet(cli.List("sites", all, site.record)), cli.List("", rows, place.row))
}

// place is one certificate of a site, or a site that has none.
type place struct {
	site        site
	certificate *certificate
}

// row returns the place for people.
func (p place) row() cli.Record {
	issuer, serial, status, until, left := "", "", "no certificate", any(nil), ""
	if c := p.certificate; c != nil {
		issuer, serial, status, until, left = c.Issuer, c.Serial, c.Status, c.NotAfter, cli.Span(c.left)
		if c.Reason != nil {
			status += " " + *c.Reason
		}
		status += c.withheld()
	}
	return cli.Record{
		cli.F("", "SITE", p.site.Name), cli.F("", "STATE", p.site.State), cli.F("", "URL", p.site.URL), cli.F("", "ISSUER", issuer),
		cli.F("", "SERIAL", serial), cli.F("", "STATUS", status), cli.F("", "NOT AFTER", until), cli.F("", "LEFT", left),
	}
}
