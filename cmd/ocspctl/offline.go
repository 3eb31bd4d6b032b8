package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// bundle holds the flags of responder bundle.
type bundle struct {
	change
	sites       []string
	issuer, csr string
	url, out    string
	feedPin     string
	series      fleet.Series
}

func (p *program) responderBundleCommand() *cobra.Command {
	var b bundle
	cmd := p.Command("bundle [SITE...]", "draw up a series of certificates for a CA that has no network to sign", `
		ocspctl responder bundle --issuer web-ca --out bundle.json
		ocspctl responder bundle site-b --csr site-b.csr --issuer web-ca --url http://site-b.example/ --count 8 --every 84h --out bundle.json --apply`,
		cobra.ArbitraryArgs, func(ctx context.Context, args []string) error {
			b.sites = args
			return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error { return p.responderBundle(ctx, store, b) })
		})
	f := cmd.Flags()
	f.StringVar(&b.issuer, "issuer", "", "the issuer's `NAME`")
	f.StringVar(&b.csr, "csr", "", "the certificate request of the one SITE, a new one or with a new key, in `FILE`")
	f.StringVar(&b.url, "url", "", "the `URL` of a new SITE's OCSP responder: it goes onto the roster")
	f.StringVar(&b.feedPin, "feed-pin", "", feedPinUsage)
	f.StringVar(&b.out, "out", "", "write the bundle to `FILE`")
	f.IntVar(&b.series.Count, "count", 8, "how many certificates for each site's key")
	f.DurationVar(&b.series.Every, "every", fleet.DefaultLife/2, "from the beginning of one to that of the next")
	f.DurationVar(&b.series.Life, "life", fleet.DefaultLife, "how long each lives")
	b.flags(cmd)
	require(cmd, "issuer", "out")
	return cmd
}

// bundleView is what the verbs about bundles print.
type bundleView struct {
	cli.Outcome
	Issuer       string           `json:"issuer"`
	CRLURL       string           `json:"crl_url"` // of the CRLs; empty: there are none
	File         *string          `json:"file"`
	Certificates []bundleCertView `json:"certificates"`
	CRLs         []bundledList    `json:"crls"`
	Revoked      []revokedView    `json:"revoked"` // what each of the CRLs names
	// What ca-sign adds to its deny list.
	DeniedKeys         []string `json:"denied_keys"`
	DeniedCertificates []string `json:"denied_certificates"`
}

type bundleCertView struct {
	Site      string  `json:"site"`
	Key       *string `json:"key_fingerprint"` // SHA-256 of the SubjectPublicKeyInfo
	Serial    *string `json:"serial"`          // null: planned
	NotBefore string  `json:"not_before"`
	NotAfter  string  `json:"not_after"`
	Action    *string `json:"action"` // of responder release: released, waiting, there or revoked
}

func (v bundleView) tell(t *cli.Table) {
	t.Row("issuer", v.Issuer)
	t.Row("file", cli.OrDash(v.File))
	if len(v.Certificates) > 0 {
		t.Line("")
		t.Row("SITE", "SERIAL", "NOT BEFORE", "NOT AFTER", "ACTION", "KEY FINGERPRINT")
	}
	for _, c := range v.Certificates {
		t.Row(c.Site, cli.OrDash(c.Serial), c.NotBefore, c.NotAfter, cli.OrDash(c.Action), cli.OrDash(c.Key))
	}
	v.tellLists(t)
	for _, key := range v.DeniedKeys {
		t.Row("to the deny list", "key "+key)
	}
	for _, serial := range v.DeniedCertificates {
		t.Row("to the deny list", "certificate "+serial)
	}
	v.Outcome.Tell(t)
}

func (p *program) responderBundle(ctx context.Context, store *masterdb.DB, b bundle) error {
	if b.csr != "" && len(b.sites) != 1 {
		return cli.Usagef("--csr is one site's request: name that SITE")
	}
	if b.url != "" && (b.csr == "" || !isSiteURL(b.url)) {
		return cli.Usagef("--url %q: want http://HOST/ or https://HOST/, and the site's request with --csr", b.url)
	}
	if b.feedPin != "" && b.csr == "" {
		return cli.Usagef("--feed-pin is for the SITE whose request --csr is; for others: ocspctl responder set")
	}
	if err := checkFeedPin(b.feedPin); err != nil {
		return err
	}
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
	roster, err := store.Responders(ctx)
	if err != nil {
		return err
	}
	var list []fleet.BundledCert
	var rows []masterdb.Planned
	for _, site := range b.wanted(roster, issuer.ID) {
		proofs := a.LastProofs(roster, site, p.Now())
		if b.csr != "" {
			csr, err := ctl.ReadSmall(b.csr)
			if err != nil {
				return fmt.Errorf("reading the certificate request: %w", err)
			}
			proofs = [][]byte{csr}
		}
		if len(proofs) == 0 {
			return fmt.Errorf("site %q has no certificate of issuer %q to go by, or is not active: give its request with --csr", site, b.issuer)
		}
		for _, proof := range proofs {
			certs, planned, err := a.Plan(site, proof, b.series, p.Now())
			if err != nil {
				return err
			}
			list, rows = append(list, certs...), append(rows, planned...)
		}
	}
	if len(list) == 0 {
		return fmt.Errorf("no active site has a certificate of issuer %q: name a SITE and give its request with --csr", b.issuer)
	}
	if b.url != "" || b.feedPin != "" {
		if err := store.Try(ctx, b.apply, func(store *masterdb.DB) error { return b.enlist(ctx, store, act) }); err != nil {
			return err
		}
	}
	if b.apply {
		denied, err := a.Denied(ctx, store)
		if err != nil {
			return err
		}
		// The file before the plan is kept: a bundle that was not planned is refused when
		// it comes back, a planned serial without a bundle is lost.
		err = store.PlanResponderCertificates(ctx, rows, func() error {
			for i := range list {
				list[i].Serial = rows[i].Serial.String()
			}
			return writeBundle(b.out, a.Bundle(list, denied))
		}, act)
		if err != nil {
			return err
		}
	}
	view := bundleView{Outcome: cli.NewOutcome("responder bundle", b.apply, true), Issuer: b.issuer, File: &b.out}
	for i, c := range list {
		view.Certificates = append(view.Certificates, viewBundled(c, hex.EncodeToString(rows[i].KeyHash[:]), ""))
	}
	return p.Print(view, view.tell)
}

// enlist puts the one site on the roster, as it was asked for.
func (b *bundle) enlist(ctx context.Context, store *masterdb.DB, act db.Act) error {
	if b.url != "" {
		if _, err := store.AddResponder(ctx, b.sites[0], b.url, nil, act); err != nil {
			return err
		}
	}
	return setFeedPin(ctx, store, b.sites[0], b.feedPin, act)
}

// wanted are the sites named, or the active ones that have a certificate of the issuer.
func (b *bundle) wanted(roster []masterdb.Responder, issuer db.IssuerID) []string {
	if len(b.sites) > 0 {
		return b.sites
	}
	var sites []string
	for _, r := range roster {
		if r.State == db.ResponderActive && slices.ContainsFunc(r.Certificates, func(c masterdb.RosterCertificate) bool { return c.IssuerID == issuer }) {
			sites = append(sites, r.Name)
		}
	}
	return sites
}

func viewBundled(c fleet.BundledCert, key, action string) bundleCertView {
	return bundleCertView{c.Site, cli.TextOrNil(key), cli.TextOrNil(c.Serial), cli.Stamp(c.NotBefore), cli.Stamp(c.NotAfter), cli.TextOrNil(action)}
}

// writeBundle writes what travels between CA and master. A signed series is worth
// stealing until its last end, so its file is its owner's alone.
func writeBundle(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = fleet.WritePrivate(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	return nil
}

// maxBundle is room for the longest series of the longest CRLs.
const maxBundle = 16 << 20

func (p *program) readBundle(path string) (*fleet.Bundle, error) {
	var b fleet.Bundle
	return &b, p.readTravelled(path, "bundle", &b)
}

// readTravelled reads what came from the CA, or goes there.
func (p *program) readTravelled(path, what string, v any) error {
	raw, err := ctl.ReadAtMost(path, maxBundle)
	if err != nil {
		return fmt.Errorf("reading the %s: %w", what, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(p.Stderr, "ocspctl: others may read or write %s (%s): chmod 600 %s\n", path, info.Mode().Perm(), path)
	}
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return fmt.Errorf("reading the %s %s: %w", what, path, err)
	}
	return nil
}

func (p *program) responderReleaseCommand() *cobra.Command {
	return p.releaseCommand("put those certificates of a signed bundle among the rows whose time has come; for a timer", `
		ocspctl responder release signed.json
		ocspctl responder release signed.json --why 'timer' --apply`, p.responderRelease)
}

// releasing is a signed bundle, and whose it is.
type releasing struct {
	path   string
	bundle *fleet.Bundle
	issuer db.Issuer
	ca     *fleet.Authority
	apply  bool
	act    db.Act
}

// releaseCommand is a verb that takes a signed bundle.
func (p *program) releaseCommand(short, example string, do func(context.Context, *masterdb.DB, releasing) error) *cobra.Command {
	var c change
	cmd := p.Command("release BUNDLE", short, example, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		return p.atMaster(ctx, func(store *masterdb.DB, _ *config.Config) error {
			r := releasing{path: args[0], apply: c.apply}
			var err error
			if r.act, err = c.act(); err != nil {
				return err
			}
			if r.bundle, err = p.readBundle(r.path); err != nil {
				return err
			}
			if r.issuer, err = ctl.IssuerNamed(ctx, store, r.bundle.Issuer); err != nil {
				return err
			}
			if r.ca, err = fleet.PublicAuthority(r.issuer, p.Now()); err != nil {
				return err
			}
			return do(ctx, store, r)
		})
	})
	c.flags(cmd)
	return cmd
}

func (p *program) responderRelease(ctx context.Context, store *masterdb.DB, r releasing) error {
	if len(r.bundle.Certificates) == 0 {
		return fmt.Errorf("%s holds no certificates: those of ocspctl responder bundle do (CRLs: ocspctl crl release)", r.path)
	}
	list, err := r.ca.Release(ctx, store, r.bundle, r.apply, p.Now(), r.act)
	if err != nil {
		return err
	}
	view := bundleView{Outcome: cli.NewOutcome("responder release", r.apply, false), Issuer: r.bundle.Issuer, File: &r.path}
	for _, done := range list {
		at := slices.IndexFunc(r.bundle.Certificates, func(c fleet.BundledCert) bool { return c.Serial == done.Serial })
		view.Certificates = append(view.Certificates, viewBundled(r.bundle.Certificates[at], "", done.Action))
		view.Changed = view.Changed || done.Action == "released"
	}
	return p.Print(view, view.tell)
}
