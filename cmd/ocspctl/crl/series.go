package crl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"
)

// bundle is crl bundle.
type bundle struct {
	cli.Change
	Issuer string        `flag:"issuer,required" help:"the issuer's <NAME>"`
	Out    string        `flag:"out,required" help:"write the bundle to <FILE>"`
	Count  int           `flag:"count" help:"how many CRLs"`
	Every  time.Duration `flag:"every" help:"from the beginning of one to that of the next"`
	Life   time.Duration `flag:"life" help:"from thisUpdate to nextUpdate of each (max_staleness to 240h)"`
}

func (bundle) Doc() cli.Doc {
	return cli.Doc{
		Name: "bundle", Short: "draw up a series of CRLs for a CA that has no network to sign",
		Long: `For a CA whose key has no network: takes the numbers of a series of CRLs that follow
each other and all name what is revoked now, and writes a file for ca-sign. Eight of
them, one each 3 days, last four weeks. A site that is revoked meanwhile stands in none
of them: draw up a new bundle then, whose CRLs take the place of those that wait.`,
		Example: `
		ocspctl crl bundle --issuer web-ca --out crls.json
		ocspctl crl bundle --issuer web-ca --count 8 --every 72h --out crls.json --apply`,
	}
}

func (v *bundle) Run(ctx context.Context, m *ctl.Master) error {
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	issuer, err := m.Issuer(ctx, v.Issuer)
	if err != nil {
		return err
	}
	a, err := issuance.PublicAuthority(issuer, m.Now())
	if err != nil {
		return err
	}
	list, position, err := issuance.DraftCRLs(ctx, m.Store, issuer, issuance.Series{Count: v.Count, Every: v.Every, Life: v.Life})
	if err != nil {
		return err
	}
	denied, err := a.Denied(ctx, m.Store)
	if err != nil {
		return err
	}
	if v.Apply {
		first, err := m.Store.NextCRL(ctx, issuer.ID, len(list))
		if err != nil {
			return err
		}
		for i := range list {
			list[i].Number = first + int64(i)
		}
	}
	b, planned := a.BundleCRLs(list, position, denied)
	if v.Apply {
		// The file first: what is not planned is refused when it comes back.
		if err := ca.WriteFile(v.Out, b); err != nil {
			return err
		}
		if err := m.Store.PlanCRLs(ctx, issuer.ID, planned, act); err != nil {
			return err
		}
	}
	return shown(b, v.Issuer, v.Out).Show(m.Program, v.Outcome(true))
}

// shown is a bundle as far as it is about CRLs.
func shown(b issuance.Bundle, issuer, file string) ca.Shown {
	return ca.Shown{Bundle: issuance.Bundle{Issuer: issuer, CRLURL: b.CRLURL, CRLs: b.CRLs, Revoked: b.Revoked}, File: file}
}

// release is crl release.
type release struct{ ca.Signed }

func (release) Doc() cli.Doc {
	return cli.Doc{
		Name: "release", Short: "publish the CRL of a signed bundle whose time has come; for a timer",
		Long: `Run from a timer at the master. Each CRL must say what was planned under its number
and bear the CA's signature. The newest whose time has come is put into the issuer's
row, from where every site serves it. Exit code 3 when it lacks a certificate that was
revoked since, or when less than two still wait: a new bundle must go to the CA.`,
		Example: `
		ocspctl crl release crls-signed.json
		ocspctl crl release crls-signed.json --why 'timer' --apply`,
	}
}

func (v *release) Run(ctx context.Context, m *ctl.Master) error {
	b, err := v.Open(ctx, m)
	if err != nil {
		return err
	}
	if len(b.CRLs) == 0 {
		return fmt.Errorf("%s holds no CRLs: those of ocspctl crl bundle do (certificates: ocspctl responder release)", v.Path)
	}
	list, published, err := b.CA.ReleaseCRL(ctx, m.Store, &b.Bundle, v.Apply, m.Now(), b.Act)
	if err != nil {
		return err
	}
	shown, changed, waiting := shown(b.Bundle, b.Bundle.Issuer, v.Path), false, 0
	for _, done := range list {
		shown.Actions = append(shown.Actions, done.Action)
		changed = changed || done.Action == "published"
		if done.Action == "waiting" {
			waiting++
		}
	}
	if err := shown.Show(m.Program, v.Outcome(changed)); err != nil {
		return err
	}
	return judgeReleased(ctx, m, b.CA.Issuer, published, waiting)
}

// judgeReleased says what is wrong with the CRL that the sites serve now, and whether
// the series nears its end.
func judgeReleased(ctx context.Context, m *ctl.Master, issuer db.Issuer, published []byte, waiting int) error {
	var wrong []string
	if len(published) == 0 {
		wrong = append(wrong, "none is published yet")
	} else {
		gap, err := gap(ctx, m, issuer, published)
		if err != nil {
			return err
		}
		if gap != "" {
			wrong = append(wrong, "it "+gap)
		}
	}
	if waiting < 2 {
		wrong = append(wrong, fmt.Sprintf("%d of the series still wait", waiting))
	}
	if len(wrong) > 0 {
		return cli.Wrongf("CRL of issuer %s: %s: take a new bundle to the CA (ocspctl crl bundle)", issuer.Name, strings.Join(wrong, "; "))
	}
	return nil
}
