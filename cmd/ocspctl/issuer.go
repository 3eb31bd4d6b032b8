package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (p *program) issuerCommand() *cobra.Command {
	return cli.Noun("issuer", "the CAs whose certificates the fleet answers for", p.issuerAddCommand(), p.issuerSetCommand(), p.issuerListCommand())
}

// issuerAdd holds the flags of issuer add.
type issuerAdd struct {
	change
	name, cert string
	policy     policyFlags
	given      func(flag string) bool // whether it stands on the command line
}

func (p *program) issuerAddCommand() *cobra.Command {
	var a issuerAdd
	cmd := p.Command("add", "put an issuer on the master, with the policy of its answers", `
		ocspctl issuer add --name web-ca --cert web-ca.pem
		ocspctl issuer add --name web-ca --cert web-ca.pem --validity 72h --never-issued unknown --profile revocable --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error { return p.issuerAdd(ctx, a) })
	f := cmd.Flags()
	f.StringVar(&a.name, "name", "", "the staff's `NAME` for it, for ever")
	f.StringVar(&a.cert, "cert", "", "the CA's certificate, PEM or DER, in `FILE`")
	a.policy.flags(f)
	a.given = f.Changed
	a.flags(cmd)
	require(cmd, "name", "cert")
	return cmd
}

// policyFlags holds the flags that say a policy.
type policyFlags struct {
	validity, backdate, maxStaleness, freshForUnknown, httpMaxAge, refresh time.Duration
	never, profile, crlURL                                                 string
	archiveCutoff                                                          bool
}

func (p *policyFlags) flags(f *pflag.FlagSet) {
	f.DurationVar(&p.validity, "validity", 72*time.Hour, "how long an answer is valid (1h to 240h)")
	f.DurationVar(&p.backdate, "backdate", 5*time.Minute, "how far thisUpdate lies back, for slow clocks of clients (0 to 1h)")
	f.DurationVar(&p.maxStaleness, "max-staleness", 0, "how old a site's copy may be for good (default: half of validity)")
	f.DurationVar(&p.freshForUnknown, "fresh-for-unknown", 15*time.Minute, "how old a site's copy may be for unknown")
	f.DurationVar(&p.httpMaxAge, "http-max-age", 0, "how long HTTP caches may keep an answer (default: 1h, at most half of validity)")
	f.DurationVar(&p.refresh, "refresh", 15*time.Minute, "how old a signature may be when it is given again, a quarter of validity at most; 0: as old as the site's copy")
	f.StringVar(&p.never, "never-issued", string(db.NeverIssuedUnknown), "what to say of serials never issued: `unknown|revoked|unauthorized`")
	f.StringVar(&p.profile, "profile", string(db.ProfileRevocable), "the rules it obeys: `revocable|br` (br: the CA/Browser Forum's, for public TLS)")
	f.StringVar(&p.crlURL, "crl-url", "", "`URL` of the CRL of its responder certificates: http://HOST/crl/NAME, where HOST is all sites")
	f.BoolVar(&p.archiveCutoff, "archive-cutoff", false, "say in answers that status is kept since the CA's notBefore, beyond a certificate's end; forbids db purge")
}

// policy is what the flags say, with nothing filled in.
func (p *policyFlags) policy() db.Policy {
	return db.Policy{
		Validity: p.validity, Backdate: p.backdate, MaxStaleness: p.maxStaleness, FreshForUnknown: p.freshForUnknown, HTTPMaxAge: p.httpMaxAge,
		Refresh: p.refresh, NeverIssued: db.NeverIssued(p.never), Profile: db.Profile(p.profile), CRLURL: p.crlURL, ArchiveCutoff: p.archiveCutoff,
	}
}

// settle fills the defaults that depend on others. A 0 that was given is a 0.
func (a *issuerAdd) settle() (db.Policy, error) {
	p := a.policy.policy()
	if !a.given("max-staleness") {
		p.MaxStaleness = p.Validity / 2
		if p.Profile == db.ProfileBR {
			p.MaxStaleness = min(p.MaxStaleness, db.RenewalBR(p.Validity)-p.Backdate)
		}
	}
	if !a.given("http-max-age") {
		p.HTTPMaxAge = min(time.Hour, p.Validity/2)
	}
	return p, checkPolicy(p)
}

// checkPolicy refuses what the master does not see of a policy: its bounds are the
// master's own, and a plan hears of them there.
func checkPolicy(p db.Policy) error {
	if p.CRLURL != "" && !config.IsCRLURL(p.CRLURL) {
		return cli.Usagef("--crl-url %q: want http://HOST/PATH, such as http://ocsp.example/crl/NAME (not https: RFC 5280 section 8)", p.CRLURL)
	}
	for _, d := range []time.Duration{p.Validity, p.Backdate, p.MaxStaleness, p.FreshForUnknown, p.HTTPMaxAge, p.Refresh} {
		if d%time.Second != 0 {
			return cli.Usagef("%s: want whole seconds", d)
		}
	}
	return nil
}

// issuerView is an issuer as ocspctl shows it.
type issuerView struct {
	ID              int32  `json:"id"` // 0: not there yet
	Name            string `json:"name"`
	Subject         string `json:"subject"`
	NotAfter        string `json:"not_after"` // of the CA's certificate
	KeyHash         string `json:"key_hash"`  // SHA-256 of subject and public key
	Validity        string `json:"validity"`
	Backdate        string `json:"backdate"`
	MaxStaleness    string `json:"max_staleness"`
	FreshForUnknown string `json:"fresh_for_unknown"`
	HTTPMaxAge      string `json:"http_max_age"`
	Refresh         string `json:"refresh"`
	NeverIssued     string `json:"never_issued"`
	Profile         string `json:"profile"`
	CRLURL          string `json:"crl_url"`
	ArchiveCutoff   bool   `json:"archive_cutoff"`
	PolicyVersion   int64  `json:"policy_version"`
}

func viewIssuer(i db.Issuer) issuerView {
	subject, notAfter := "", ""
	if certificate, err := x509.ParseCertificate(i.Certificate); err == nil {
		subject, notAfter = certificate.Subject.String(), cli.Stamp(certificate.NotAfter)
	} else { // one bad row hides no other; sites go by the file that they pin
		subject = fmt.Sprintf("UNREADABLE (%v): ocspctl issuer set --cert FILE", err)
	}
	p := i.Policy
	return issuerView{
		ID: int32(i.ID), Name: i.Name, Subject: subject, NotAfter: notAfter,
		KeyHash: hex.EncodeToString(i.Key[:]), Validity: p.Validity.String(), Backdate: p.Backdate.String(),
		MaxStaleness: p.MaxStaleness.String(), FreshForUnknown: p.FreshForUnknown.String(), HTTPMaxAge: p.HTTPMaxAge.String(), Refresh: p.Refresh.String(),
		NeverIssued: string(p.NeverIssued), Profile: string(p.Profile), CRLURL: p.CRLURL, ArchiveCutoff: p.ArchiveCutoff, PolicyVersion: p.Version,
	}
}

func (p *program) issuerAdd(ctx context.Context, a issuerAdd) error {
	policy, err := a.settle()
	if err != nil {
		return err
	}
	certificate, err := ctl.ReadCertificate(a.cert)
	if err != nil {
		return err
	}
	if err := fleet.CheckCA(certificate, p.Now()); err != nil {
		return fmt.Errorf("adding issuer %q: %s: %w", a.name, a.cert, err)
	}
	act, err := a.act()
	if err != nil {
		return err
	}
	issuer := db.Issuer{Key: fleet.IssuerKey(certificate), Name: a.name, Certificate: certificate.Raw, Policy: policy}
	return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error {
		there, err := findIssuer(ctx, store, issuer)
		if err != nil {
			return err
		}
		if there != nil {
			issuer = *there
		} else if err := store.Try(ctx, a.apply, func(store *masterdb.DB) error {
			issuer.Policy.Version = 1
			id, err := store.AddIssuer(ctx, issuer, act)
			if a.apply { // in a plan it is not known yet
				issuer.ID = id
			}
			return err
		}); err != nil {
			return err
		}
		view := viewIssuer(issuer)
		result := struct {
			cli.Outcome
			Issuer issuerView `json:"issuer"`
		}{cli.NewOutcome("issuer add", a.apply, there == nil), view}
		return p.Print(result, func(t *cli.Table) {
			view.tell(t)
			result.Tell(t)
		})
	})
}

// findIssuer returns the issuer if it is on the master just so. That it is there
// otherwise says the master.
func findIssuer(ctx context.Context, store *masterdb.DB, issuer db.Issuer) (*db.Issuer, error) {
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	for _, there := range issuers {
		policy := there.Policy
		policy.Version = issuer.Policy.Version
		if there.Key == issuer.Key && there.Name == issuer.Name && policy == issuer.Policy {
			return &there, nil
		}
	}
	return nil, nil
}

func (v issuerView) tell(t *cli.Table) {
	for _, line := range [][2]string{
		{"name", v.Name},
		{"subject", v.Subject},
		{"not after", v.NotAfter},
		{"key hash", v.KeyHash},
		{"validity", v.Validity},
		{"backdate", v.Backdate},
		{"max staleness", v.MaxStaleness},
		{"fresh for unknown", v.FreshForUnknown},
		{"http max age", v.HTTPMaxAge},
		{"refresh", v.Refresh},
		{"never issued", v.NeverIssued},
		{"profile", v.Profile},
		{"crl url", v.CRLURL},
		{"archive cutoff", fmt.Sprint(v.ArchiveCutoff)},
	} {
		t.Row(line[0], line[1])
	}
}

func (p *program) issuerListCommand() *cobra.Command {
	return p.Command("list", "show the issuers and their policies", "ocspctl issuer list --output json", cobra.NoArgs,
		func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.issuerList(ctx, store) })
		})
}

func (p *program) issuerList(ctx context.Context, store *masterdb.DB) error {
	issuers, err := store.Issuers(ctx)
	if err != nil {
		return err
	}
	views := make([]issuerView, len(issuers))
	for i, issuer := range issuers {
		views[i] = viewIssuer(issuer)
	}
	return p.Print(map[string]any{"issuers": views}, func(t *cli.Table) {
		t.Row("NAME", "PROFILE", "VALIDITY", "NEVER ISSUED", "CA UNTIL", "SUBJECT")
		for _, v := range views {
			t.Row(v.Name, v.Profile, v.Validity, v.NeverIssued, v.NotAfter, v.Subject)
		}
	})
}
