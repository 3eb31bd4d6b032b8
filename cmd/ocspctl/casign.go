package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// caSign holds the flags of ca-sign.
type caSign struct {
	apply bool
	out   string
	ahead time.Duration
}

func (p *program) caSignCommand() *cobra.Command {
	var c caSign
	cmd := p.Command("ca-sign BUNDLE", "sign a bundle with the CA's key; needs no database and no network", `
		ocspctl ca-sign bundle.json --config ca.yaml --out signed.json
		ocspctl ca-sign bundle.json --config ca.yaml --out signed.json --apply
		ocspctl ca-sign crls.json --config ca.yaml --out crls-signed.json --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error { return p.caSign(ctx, args[0], c) })
	cmd.Flags().BoolVar(&c.apply, "apply", false, "do it; without it the plan is shown and nothing is done")
	cmd.Flags().StringVar(&c.out, "out", "", "write the signed bundle to `FILE`")
	cmd.Flags().DurationVar(&c.ahead, "max-ahead", 60*24*time.Hour, "refuse certificates and CRLs that begin later")
	require(cmd, "out")
	cmd.AddCommand(p.caSerialsCommand())
	return cmd
}

// caNamed is the CA of this name in the configuration, and its certificate.
func (p *program) caNamed(name string) (*config.Config, config.CA, *x509.Certificate, error) {
	cfg, err := p.config()
	if err != nil {
		return nil, config.CA{}, nil, err
	}
	at, ok := cfg.Issuers[name]
	if !ok || at.Certificate == "" {
		return nil, at, nil, fmt.Errorf("the configuration names no CA of issuer %q: set issuers.%s.certificate, and key or token", name, name)
	}
	certificate, err := ctl.ReadCertificate(at.Certificate)
	return cfg, at, certificate, err
}

func (p *program) caSign(ctx context.Context, path string, c caSign) error {
	b, err := p.readBundle(path)
	if err != nil {
		return err
	}
	cfg, at, certificate, err := p.caNamed(b.Issuer)
	if err != nil {
		return err
	}
	keys := newCAKeys(p, cfg)
	defer func() { _ = keys.close() }() // nothing is lost with it
	key, err := keys.key(ctx, at, certificate)
	if err != nil {
		return err
	}
	a, err := fleet.Offline(b.Issuer, certificate, key, at.Rules(), at.Ledger(), p.Now())
	if err != nil {
		return err
	}
	plan, err := a.CheckBundle(b, c.ahead, p.Now())
	if err != nil {
		return err
	}
	if c.apply {
		if err := a.SignBundle(b, c.ahead, p.Now(), rand.Reader); err != nil {
			return err
		}
		if err := writeBundle(c.out, b); err != nil {
			return err
		}
	}
	view := bundleView{Outcome: cli.NewOutcome("ca-sign", c.apply, true), Issuer: b.Issuer, CRLURL: b.CRLURL, File: &c.out, Certificates: []bundleCertView{}}
	view.lists(b)
	for i, one := range b.Certificates {
		view.Certificates = append(view.Certificates, viewBundled(one, hex.EncodeToString(plan.Keys[i][:]), ""))
	}
	view.DeniedKeys, view.DeniedCertificates = plan.Denied.Texts()
	return p.Print(view, view.tell)
}

// serialsView is what the two verbs about a CA's serials print.
type serialsView struct {
	cli.Outcome
	Issuer string  `json:"issuer"`
	Count  int     `json:"count"`
	Spare  *int64  `json:"spare"` // at the master, afterwards; null: nobody looked
	File   *string `json:"file"`
}

func (v serialsView) tell(t *cli.Table) {
	t.Row("issuer", v.Issuer)
	t.Row("file", cli.OrDash(v.File))
	t.Row("serials", strconv.Itoa(v.Count))
	if v.Spare != nil {
		t.Row("spare at the master", strconv.FormatInt(*v.Spare, 10))
	}
	v.Outcome.Tell(t)
}

func (p *program) caSerialsCommand() *cobra.Command {
	var apply bool
	var issuer, out string
	var count int
	cmd := p.Command("serials", "make serials in advance, for the master to plan certificates with", `
		ocspctl ca-sign serials --config ca.yaml --issuer web-ca --count 200 --out serials.json
		ocspctl ca-sign serials --config ca.yaml --issuer web-ca --count 200 --out serials.json --apply`,
		cobra.NoArgs, func(context.Context, []string) error { return p.caSerials(issuer, out, count, apply) })
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	cmd.Flags().IntVar(&count, "count", 0, fmt.Sprintf("how many (1 to %d)", fleet.MaxSerials))
	cmd.Flags().StringVar(&out, "out", "", "write them to `FILE`")
	cmd.Flags().BoolVar(&apply, "apply", false, "do it; without it the plan is shown and nothing is done")
	require(cmd, "issuer", "count", "out")
	return cmd
}

func (p *program) caSerials(issuer, out string, count int, apply bool) error {
	if count < 1 || count > fleet.MaxSerials {
		return cli.Usagef("--count %d: want 1 to %d", count, fleet.MaxSerials)
	}
	_, at, certificate, err := p.caNamed(issuer)
	if err != nil {
		return err
	}
	if apply {
		pool, err := fleet.MakeSerials(issuer, certificate, at.Ledger(), count, rand.Reader)
		if err != nil {
			return err
		}
		if err := writeBundle(out, pool); err != nil {
			return err
		}
	}
	view := serialsView{Outcome: cli.NewOutcome("ca-sign serials", apply, true), Issuer: issuer, Count: count, File: &out}
	return p.Print(view, view.tell)
}

func (p *program) responderSerialsCommand() *cobra.Command {
	var c change
	cmd := p.Command("serials FILE", "take serials that the CA made into the master's pool", `
		ocspctl responder serials serials.json
		ocspctl responder serials serials.json --why 'for half a year' --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.responderSerials(ctx, store, c, args[0]) })
		})
	c.flags(cmd)
	return cmd
}

func (p *program) responderSerials(ctx context.Context, store *masterdb.DB, c change, path string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	var pool fleet.Serials
	if err := p.readTravelled(path, "serials", &pool); err != nil {
		return err
	}
	issuer, err := ctl.IssuerNamed(ctx, store, pool.Issuer)
	if err != nil {
		return err
	}
	serials, err := pool.Read(issuer)
	if err != nil {
		return err
	}
	view := serialsView{Outcome: cli.NewOutcome("responder serials", c.apply, len(serials) > 0), Issuer: issuer.Name, Count: len(serials), File: &path}
	if c.apply {
		added, err := store.AddSerials(ctx, issuer.ID, serials, act)
		if err != nil {
			return err
		}
		view.Count, view.Changed = int(added), added > 0
	}
	spare, err := store.SpareSerials(ctx, issuer.ID)
	if err != nil {
		return err
	}
	view.Spare = &spare
	return p.Print(view, view.tell)
}
