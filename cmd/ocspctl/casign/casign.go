package casign

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/ops/config"
	"ocspfleet/ops/issuance"

	"github.com/spf13/cobra"
)

// Noun is the command ca-sign, itself a verb, with another verb below it.
func Noun(p *cli.Program) *cobra.Command {
	cmd := p.Verb(&sign{Ahead: 60 * 24 * time.Hour})
	cmd.AddCommand(p.Verb(&serials{}))
	return cmd
}

// doing has the arguments of both verbs. It has no reason: the master's audit has that.
type doing struct {
	Apply bool `flag:"apply" help:"do it; without it the plan is shown and nothing is done"`
}

// sign is ca-sign.
type sign struct {
	doing
	Path  string        `arg:"BUNDLE"`
	Out   string        `flag:"out,required" help:"write the signed bundle to <FILE>"`
	Ahead time.Duration `flag:"max-ahead" help:"refuse certificates and CRLs that begin later"`
}

func (sign) Doc() cli.Doc {
	return cli.Doc{
		Name: "ca-sign", Short: "sign a bundle with the CA's key; needs no database and no network",
		Long: `The one piece that touches the CA's key: run it by a user of its own, at the machine
that holds the key, and carry the files. Of the bundle it believes nothing. What it
signs, its own configuration says (issuers.NAME: profile, max_life, crl_url): a bundle
that wants otherwise is refused. Each key must come with a request that it signed, which
is good for one max_life from when it was first shown here, or with a certificate that
this CA signed; neither may be on the deny list, to which a bundle only adds. Each serial
must be of the CA's own pool and is signed once. A CRL must name, for ever, what the
last one named, until it has ended; only a hold may go. What the CA remembers lies in
issuers.NAME.state. Compare the key fingerprints of new sites before --apply.`,
		Example: `
		ocspctl ca-sign bundle.json --config ca.yaml --out signed.json
		ocspctl ca-sign bundle.json --config ca.yaml --out signed.json --apply
		ocspctl ca-sign crls.json --config ca.yaml --out crls-signed.json --apply`,
	}
}

// named returns the CA of this name in the configuration, and its certificate.
func named(p *cli.Program, name string) (*settings.Settings, config.CA, *x509.Certificate, error) {
	cfg, err := ctl.Load(p)
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

func (v *sign) Run(ctx context.Context, p *cli.Program) error {
	b, err := ca.ReadBundle(p, v.Path)
	if err != nil {
		return err
	}
	cfg, at, certificate, err := named(p, b.Issuer)
	if err != nil {
		return err
	}
	keys := ca.NewKeys(p, cfg)
	defer func() { _ = keys.Close() }() // an error loses nothing
	key, err := keys.Key(ctx, at, certificate)
	if err != nil {
		return err
	}
	a, err := issuance.Offline(b.Issuer, certificate, key, settings.Rules(at), settings.Ledger(at), p.Now())
	if err != nil {
		return err
	}
	plan, err := a.CheckBundle(b, v.Ahead, p.Now())
	if err != nil {
		return err
	}
	if v.Apply {
		if err := a.SignBundle(b, v.Ahead, p.Now(), rand.Reader); err != nil {
			return err
		}
		if err := ca.WriteFile(v.Out, b); err != nil {
			return err
		}
	}
	shown := ca.Shown{Bundle: *b, File: v.Out}
	for _, key := range plan.Keys {
		shown.Keys = append(shown.Keys, hex.EncodeToString(key[:]))
	}
	shown.DeniedKeys, shown.DeniedCertificates = plan.Denied.Texts()
	return shown.Show(p, cli.NewOutcome("ca-sign", v.Apply, true))
}

// serials is ca-sign serials.
type serials struct {
	doing
	Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
	Count  int    `flag:"count,required" help:"how many (1 to MOST)"`
	Out    string `flag:"out,required" help:"write them to <FILE>"`
}

func (serials) Doc() cli.Doc {
	return cli.Doc{
		Name: "serials", Short: "make serials in advance, for the master to plan certificates with",
		Long: `Carry the file to the master, as bundles are carried, and give it to responder serials
there: certificates are planned with these serials alone. The CA signs each of them
once, and no others. One for each certificate: eight a month for a site's key and issuer.`,
		Example: `
		ocspctl ca-sign serials --config ca.yaml --issuer web-ca --count 200 --out serials.json
		ocspctl ca-sign serials --config ca.yaml --issuer web-ca --count 200 --out serials.json --apply`,
	}
}

// Words returns the limit of package issuance.
func (serials) Words() []string { return []string{"MOST", strconv.Itoa(issuance.MaxSerials)} }

func (v *serials) Run(_ context.Context, p *cli.Program) error {
	if v.Count < 1 || v.Count > issuance.MaxSerials {
		return cli.Usagef("--count %d: want 1 to %d", v.Count, issuance.MaxSerials)
	}
	_, at, certificate, err := named(p, v.Issuer)
	if err != nil {
		return err
	}
	if v.Apply {
		pool, err := issuance.MakeSerials(v.Issuer, certificate, settings.Ledger(at), v.Count, rand.Reader)
		if err != nil {
			return err
		}
		if err := ca.WriteFile(v.Out, pool); err != nil {
			return err
		}
	}
	return ca.Pool(p, cli.NewOutcome("ca-sign serials", v.Apply, true), v.Issuer, v.Out, v.Count, nil)
}
