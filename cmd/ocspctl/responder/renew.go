package responder

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/issuance"
)

// RenewAll returns the verb fleet renew.
func RenewAll() cli.Verb { return ctl.AtMaster(&renewAll{}) }

// renewal has the arguments of both renewing verbs. A life of 0 is that of the last certificate.
type renewal struct {
	cli.Change
	Issuers []string      `flag:"issuer" help:"an issuer's <NAME>; may stand several times (default: all)"`
	Life    time.Duration `flag:"life" help:"how long the new certificates live (default: as long as the last ones)"`
}

type renewAll struct{ renewal }

func (renewAll) Doc() cli.Doc {
	return cli.Doc{
		Name: "renew", Short: "issue anew every certificate of which half of its life is over; for a timer",
		Long: `For a timer (deploy/systemd): issues anew what is past half of its life, for each
active site the newest certificate of each kind of key. Site, key and life are taken
from that certificate, whose signature the CA's key must bear, never from a column.
What is refused is named, and so is what has less than a third of its life left
although this ran: exit code 3. So are issuers whose CA key is not in this
configuration, while the others are renewed; --issuer chooses those that are.`,
		Example: `
		ocspctl fleet renew
		ocspctl fleet renew --apply --why 'timer'`,
	}
}

func (v *renewAll) Run(ctx context.Context, m *ctl.Master) error { return v.renew(ctx, m, "") }

// renew is responder renew.
type renew struct {
	Site string `arg:"SITE"`
	renewal
}

func (renew) Doc() cli.Doc {
	return cli.Doc{
		Name: "renew", Short: "issue a site's certificates anew now, whatever is left of them",
		Long: `As fleet renew, for one site and at once: for instance after the issuer got a
crl_url. The same key, site and life as the last certificate, whose signature is
checked with the CA's key. A new key needs a new request: responder add.`,
		Example: `
		ocspctl responder renew site-b
		ocspctl responder renew site-b --issuer web-ca --apply`,
	}
}

// Check checks the site's name.
func (v *renew) Check() error {
	if err := db.CheckSite(v.Site); err != nil {
		return cli.Usagef("%v", err)
	}
	return nil
}

func (v *renew) Run(ctx context.Context, m *ctl.Master) error { return v.renew(ctx, m, v.Site) }

// renewed is one certificate, and its result: keep, renew, renewed or refused.
type renewed struct {
	issuance.Renewal
	action, detail string
	next           db.Serial // of the new one
}

func (r renewed) record() cli.Record {
	return cli.Record{
		cli.F("site", "SITE", r.Site), cli.F("issuer", "ISSUER", r.Issuer), cli.F("key_kind", "KEY", r.Kind), cli.F("serial", "SERIAL", r.Serial),
		cli.F("not_after", "NOT AFTER", r.NotAfter), cli.Shown("life_left", "LIFE LEFT", r.Left, fmt.Sprintf("%.0f %%", 100*r.Left)),
		cli.F("action", "ACTION", r.action), cli.F("", "NEXT SERIAL", r.next), cli.F("detail", "DETAIL", cli.OrNil(r.detail)), cli.F("next_serial", "", r.next),
	}
}

// renew renews the certificates of a site, or the due ones of all sites.
func (v *renewal) renew(ctx context.Context, m *ctl.Master, site string) error {
	if v.Life != 0 {
		if err := checkLife(v.Life); err != nil {
			return err
		}
	}
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	roster, err := m.Store.Responders(ctx)
	if err != nil {
		return err
	}
	if site != "" && !slices.ContainsFunc(roster, func(known masterdb.Responder) bool { return known.Name == site }) {
		return fmt.Errorf("site %q: %w (ocspctl responder list shows the sites)", site, masterdb.ErrNoResponder)
	}
	return ca.AtHand(ctx, m, v.Issuers, func(authorities []*issuance.Authority, elsewhere []db.Issuer, fault error) error {
		var lines []renewed
		faults := []error{fault} // the others are still renewed
		changed := false
		for _, one := range issuance.Renewals(roster, authorities, m.Now()) {
			if site != "" && one.Site != site {
				continue
			}
			line := renewed{Renewal: one, action: "keep", detail: one.Refused}
			switch {
			case one.Refused != "":
				line.action = "refused"
			case one.Due || site != "":
				line.action, changed = "renew", true
				if v.Apply {
					faults = append(faults, line.do(ctx, m, v.Life, act))
				}
			}
			lines = append(lines, line)
		}
		elsewhere = slices.DeleteFunc(elsewhere, func(issuer db.Issuer) bool { return !v.concerns(site, roster, issuer) })
		err := m.ShowChange(v.Outcome(changed), cli.List("certificates", lines, renewed.record))
		if err := cmp.Or(err, errors.Join(faults...)); err != nil {
			return err
		}
		return judge(site, lines, elsewhere)
	})
}

// concerns says whether an issuer has something to renew, or was named.
func (v *renewal) concerns(site string, roster []masterdb.Responder, issuer db.Issuer) bool {
	return slices.Contains(v.Issuers, issuer.Name) || slices.ContainsFunc(roster, func(r masterdb.Responder) bool {
		return (site == "" || site == r.Name) && r.State == db.ResponderActive &&
			slices.ContainsFunc(r.Certificates, func(c masterdb.RosterCertificate) bool { return c.IssuerID == issuer.ID })
	})
}

func (r *renewed) do(ctx context.Context, m *ctl.Master, life time.Duration, act db.Act) error {
	c, err := r.Do(ctx, m.Store, life, m.Now(), rand.Reader, act)
	if err != nil {
		r.detail = err.Error()
		return err
	}
	r.action, r.next = "renewed", c.Serial
	return nil
}

// judge returns the error for what was not renewed.
func judge(site string, lines []renewed, elsewhere []db.Issuer) error {
	var wrong []string
	if err := ca.Elsewhere("renewal", elsewhere); err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, l := range lines {
		switch {
		case l.action == "refused":
			wrong = append(wrong, fmt.Sprintf("%s for %s is refused: %s", l.Site, l.Issuer, l.detail))
		case l.action != "renewed" && l.Alarming():
			wrong = append(wrong, fmt.Sprintf("%s for %s has %.0f %% of its life left: the timer does not renew it", l.Site, l.Issuer, 100*l.Left))
		}
	}
	switch {
	case site != "" && len(lines) == 0 && len(elsewhere) == 0:
		return fmt.Errorf("site %q has no certificate to go by, or is not active: ocspctl responder add", site)
	case len(wrong) > 0:
		return cli.Wrongf("%s", strings.Join(wrong, "; "))
	}
	return nil
}
