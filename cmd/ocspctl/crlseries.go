package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// crlBundle holds the flags of crl bundle.
type crlBundle struct {
	change
	issuer, out string
	series      fleet.Series
}

func (p *program) crlBundleCommand() *cobra.Command {
	var b crlBundle
	cmd := p.Command("bundle", "draw up a series of CRLs for a CA that has no network to sign", `
		ocspctl crl bundle --issuer web-ca --out crls.json
		ocspctl crl bundle --issuer web-ca --count 8 --every 72h --out crls.json --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.crlBundle(ctx, store, b) })
		})
	f := cmd.Flags()
	f.StringVar(&b.issuer, "issuer", "", "the issuer's `NAME`")
	f.StringVar(&b.out, "out", "", "write the bundle to `FILE`")
	f.IntVar(&b.series.Count, "count", 8, "how many CRLs")
	f.DurationVar(&b.series.Every, "every", fleet.CRLEvery, "from the beginning of one to that of the next")
	f.DurationVar(&b.series.Life, "life", fleet.CRLLife, "from thisUpdate to nextUpdate of each (max_staleness to 240h)")
	b.flags(cmd)
	require(cmd, "issuer", "out")
	return cmd
}

// bundledList is a CRL of a bundle as ocspctl shows it.
type bundledList struct {
	Number     *string `json:"number"` // null: only planned
	ThisUpdate string  `json:"this_update"`
	NextUpdate string  `json:"next_update"`
	Action     *string `json:"action"` // of crl release: published, there, waiting, past or ended
}

// revokedView is a certificate that the CRLs of a bundle name.
type revokedView struct {
	Serial    string  `json:"serial"`
	RevokedAt string  `json:"revoked_at"`
	Reason    *string `json:"reason"`
}

func viewBundledList(c fleet.BundledCRL, action string) bundledList {
	v := bundledList{ThisUpdate: cli.Stamp(c.ThisUpdate), NextUpdate: cli.Stamp(c.NextUpdate), Action: cli.TextOrNil(action)}
	if c.Number > 0 {
		v.Number = new(strconv.FormatInt(c.Number, 10))
	}
	return v
}

// lists fills in what a bundle says of CRLs.
func (v *bundleView) lists(b *fleet.Bundle) {
	for _, c := range b.CRLs {
		v.CRLs = append(v.CRLs, viewBundledList(c, ""))
	}
	for _, e := range b.Revoked {
		v.Revoked = append(v.Revoked, revokedView{e.Serial, cli.Stamp(e.RevokedAt), cli.TextOrNil(e.Reason)})
	}
}

func (v bundleView) tellLists(t *cli.Table) {
	if len(v.CRLs) == 0 {
		return
	}
	t.Line("")
	t.Line("CRLs of the responder certificates at " + v.CRLURL + ":")
	t.Row("NUMBER", "THIS UPDATE", "NEXT UPDATE", "ACTION")
	for _, c := range v.CRLs {
		t.Row(cli.OrDash(c.Number), c.ThisUpdate, c.NextUpdate, cli.OrDash(c.Action))
	}
	t.Line("")
	t.Line(fmt.Sprintf("Each names %d revoked certificates.", len(v.Revoked)))
	if len(v.Revoked) > 0 {
		t.Row("SERIAL", "REVOKED AT", "REASON")
	}
	for _, e := range v.Revoked {
		t.Row(e.Serial, e.RevokedAt, cli.OrDash(e.Reason))
	}
}

func (p *program) crlBundle(ctx context.Context, store *masterdb.DB, b crlBundle) error {
	act, err := b.act()
	if err != nil {
		return err
	}
	issuer, err := ctl.IssuerNamed(ctx, store, b.issuer)
	if err != nil {
		return err
	}
	a, err := fleet.PublicAuthority(issuer, p.Now())
	if err != nil {
		return err
	}
	list, position, err := fleet.DraftCRLs(ctx, store, issuer, b.series)
	if err != nil {
		return err
	}
	denied, err := a.Denied(ctx, store)
	if err != nil {
		return err
	}
	if b.apply {
		first, err := store.NextCRL(ctx, issuer.ID, len(list))
		if err != nil {
			return err
		}
		for i := range list {
			list[i].Number = first + int64(i)
		}
	}
	bundle, planned := a.BundleCRLs(list, position, denied)
	if b.apply {
		// The file first: what is not planned is refused when it comes back.
		if err := writeBundle(b.out, bundle); err != nil {
			return err
		}
		if err := store.PlanCRLs(ctx, issuer.ID, planned, act); err != nil {
			return err
		}
	}
	view := bundleView{Outcome: cli.NewOutcome("crl bundle", b.apply, true), Issuer: b.issuer, CRLURL: bundle.CRLURL, File: &b.out, Certificates: []bundleCertView{}}
	view.lists(&bundle)
	return p.Print(view, view.tell)
}

func (p *program) crlReleaseCommand() *cobra.Command {
	return p.releaseCommand("publish the CRL of a signed bundle whose time has come; for a timer", `
		ocspctl crl release crls-signed.json
		ocspctl crl release crls-signed.json --why 'timer' --apply`, p.crlRelease)
}

func (p *program) crlRelease(ctx context.Context, store *masterdb.DB, r releasing) error {
	if len(r.bundle.CRLs) == 0 {
		return fmt.Errorf("%s holds no CRLs: those of ocspctl crl bundle do (certificates: ocspctl responder release)", r.path)
	}
	list, published, err := r.ca.ReleaseCRL(ctx, store, r.bundle, r.apply, p.Now(), r.act)
	if err != nil {
		return err
	}
	view := bundleView{Outcome: cli.NewOutcome("crl release", r.apply, false), Issuer: r.bundle.Issuer, CRLURL: r.bundle.CRLURL, File: &r.path, Certificates: []bundleCertView{}}
	view.lists(r.bundle)
	waiting := 0
	for i, done := range list {
		view.CRLs[i].Action = new(done.Action)
		view.Changed = view.Changed || done.Action == "published"
		if done.Action == "waiting" {
			waiting++
		}
	}
	if err := p.Print(view, view.tell); err != nil {
		return err
	}
	return p.judgeReleased(ctx, store, r.issuer, published, waiting)
}

// judgeReleased says what is wrong with the CRL that the sites serve now, and whether
// the series nears its end.
func (p *program) judgeReleased(ctx context.Context, store *masterdb.DB, issuer db.Issuer, published []byte, waiting int) error {
	var wrong []string
	if len(published) == 0 {
		wrong = append(wrong, "none is published yet")
	} else {
		gap, err := p.crlGap(ctx, store, issuer, published)
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

// crlGap says in words what a CRL lacks; empty: nothing.
func (p *program) crlGap(ctx context.Context, store *masterdb.DB, issuer db.Issuer, der []byte) (string, error) {
	missing, back, err := fleet.CRLGaps(ctx, store, issuer, der, p.Now())
	if err != nil {
		return "", err
	}
	var gaps []string
	for _, gap := range []struct {
		what    string
		serials []db.Serial
	}{{"does not name revoked", missing}, {"still names restored", back}} {
		serials := gap.serials
		names := make([]string, 0, 3)
		for _, serial := range serials[:min(3, len(serials))] {
			names = append(names, serial.String())
		}
		if len(serials) > 3 {
			names = append(names, "...")
		}
		if len(serials) > 0 {
			gaps = append(gaps, fmt.Sprintf("%s certificates (%d: %s)", gap.what, len(serials), strings.Join(names, ", ")))
		}
	}
	return strings.Join(gaps, ", "), nil
}
