package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/fleet"
	"ocspfleet/sync/feedhttp"

	"github.com/spf13/cobra"
)

func (p *program) responderCommand() *cobra.Command {
	return cli.Noun("responder", "the sites and their OCSP certificates", p.responderAddCommand(), p.responderListCommand(), p.responderShowCommand(),
		p.responderRenewCommand(), p.responderRevokeCommand(), p.responderSuspendCommand(), p.responderRestoreCommand(), p.responderLeaveCommand(),
		p.responderBundleCommand(), p.responderReleaseCommand(), p.responderSerialsCommand(), p.responderSetCommand())
}

// responderAdd holds the flags of responder add.
type responderAdd struct {
	change
	site, csr, url string
	login          string
	addresses      []string
	issuers        []string
	life           time.Duration
	out            string
	feedPin        string
}

func (p *program) responderAddCommand() *cobra.Command {
	var a responderAdd
	cmd := p.Command("add SITE", "enrol a site: certify its key for each issuer; again, with the same request: renew", `
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/ --feed-pin 1f3a... --apply
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/ --issuer web-ca --life 168h --out certs --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			a.site = args[0]
			return p.atMaster(ctx, func(store *masterdb.DB, cfg *config.Config) error { return p.responderAdd(ctx, store, cfg, a) })
		})
	f := cmd.Flags()
	f.StringVar(&a.csr, "csr", "", "the site's certificate request (ocspctl key csr) in `FILE`")
	f.StringVar(&a.url, "url", "", "the `URL` of its OCSP responder")
	f.StringArrayVar(&a.addresses, "address", nil, "an IP `ADDRESS` of the site, to be in the DNS; may stand several times (default: those it has)")
	f.StringVar(&a.login, "login", "", "its `LOGIN` at the master, of group replica (default: its name with _ for -)")
	f.StringArrayVar(&a.issuers, "issuer", nil, "an issuer's `NAME`; may stand several times (default: all)")
	f.DurationVar(&a.life, "life", fleet.DefaultLife, "how long its certificates live (1h to 2160h; profile br: 168h at most)")
	f.StringVar(&a.out, "out", "", "write the certificates to `DIR`, too, as SITE-ISSUER.pem")
	f.StringVar(&a.feedPin, "feed-pin", "", feedPinUsage)
	a.flags(cmd)
	require(cmd, "csr", "url")
	return cmd
}

func (a *responderAdd) check() error {
	if err := db.CheckSite(a.site); err != nil {
		return cli.Usagef("%v", err)
	}
	if !isSiteURL(a.url) {
		return cli.Usagef("--url %q: want http://HOST/ or https://HOST/", a.url)
	}
	for _, address := range a.addresses {
		if _, err := netip.ParseAddr(address); err != nil {
			return cli.Usagef("--address %q: want an IPv4 or IPv6 address", address)
		}
	}
	if err := checkFeedPin(a.feedPin); err != nil {
		return err
	}
	if a.life < time.Hour || a.life > fleet.MaxLife {
		return cli.Usagef("--life %s: want 1h to %s", a.life, fleet.MaxLife)
	}
	return nil
}

const feedPinUsage = "let it fetch the signed feed: the `PIN` of its TLS key (ocspctl key pin there)"

func checkFeedPin(text string) error {
	if _, err := feedhttp.ParsePin(text); text != "" && err != nil {
		return cli.Usagef("--feed-pin: %v", err)
	}
	return nil
}

// setFeedPin lets a site fetch the feed by a pin that was checked; none: nothing is done.
func setFeedPin(ctx context.Context, store *masterdb.DB, site, text string, act db.Act) error {
	if text == "" {
		return nil
	}
	pin, err := feedhttp.ParsePin(text)
	if err == nil {
		_, err = store.SetFeedPin(ctx, site, pin, act)
	}
	return err
}

// isSiteURL says whether clients can reach a site by it.
func isSiteURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// enrolled is what responder add prints of one issuer.
type enrolled struct {
	Issuer      string   `json:"issuer"`
	Profile     string   `json:"profile"`
	NotBefore   string   `json:"not_before"`
	NotAfter    string   `json:"not_after"`
	Algorithm   string   `json:"signature_algorithm"`
	Checked     string   `json:"revocation_checked"` // how a client may check the responder
	Lint        []string `json:"lint"`               // faults; none: it may leave
	Serial      *string  `json:"serial"`             // null: planned
	Fingerprint *string  `json:"fingerprint"`        // SHA-256 of the certificate
	File        *string  `json:"file"`
}

type responderAdded struct {
	cli.Outcome
	Site         string     `json:"site"`
	URL          string     `json:"url"`
	Key          string     `json:"key_fingerprint"` // SHA-256 of the SubjectPublicKeyInfo: compare it out of band
	Kind         string     `json:"key_kind"`
	FeedPin      *string    `json:"feed_pin"` // null: none was given
	Life         string     `json:"life"`
	Certificates []enrolled `json:"certificates"`
}

func (p *program) responderAdd(ctx context.Context, store *masterdb.DB, cfg *config.Config, a responderAdd) error {
	if err := a.check(); err != nil {
		return err
	}
	raw, err := ctl.ReadSmall(a.csr)
	if err != nil {
		return fmt.Errorf("reading the certificate request: %w", err)
	}
	request, err := fleet.ParseRequest(raw, a.site)
	if err != nil {
		return err
	}
	if err := store.CheckResponderKey(ctx, request.KeyHash, a.site); err != nil {
		return err
	}
	if a.life > fleet.DefaultLife {
		fmt.Fprintf(p.Stderr, "ocspctl: a life of %s: if the site is broken into, it can lie to clients for as long (the default is %s)\n", a.life, fleet.DefaultLife)
	}
	result := responderAdded{
		Outcome: cli.NewOutcome("responder add", a.apply, true), Site: a.site, URL: a.url,
		Key: hex.EncodeToString(request.KeyHash[:]), Kind: request.Kind(), FeedPin: cli.TextOrNil(a.feedPin), Life: a.life.String(),
	}
	return p.withAuthorities(ctx, store, cfg, a.issuers, func(authorities []*fleet.Authority) error {
		var refused error
		for _, authority := range authorities {
			line, err := p.rehearse(authority, request, a.life)
			if err != nil {
				return err
			}
			refused = cmp.Or(refused, lintError(line.Issuer, line.Lint))
			result.Certificates = append(result.Certificates, line)
		}
		act, err := a.act()
		if err != nil {
			return err
		}
		if err := store.Try(ctx, a.apply && refused == nil, func(store *masterdb.DB) error { return a.enlist(ctx, store, act) }); err != nil {
			return err
		}
		if refused == nil && a.apply {
			if err := p.enrol(ctx, store, authorities, request, a, act, &result); err != nil {
				return err
			}
		}
		if err := p.Print(result, result.tell); err != nil {
			return err
		}
		return refused
	})
}

// rehearse is the plan for one issuer.
func (p *program) rehearse(authority *fleet.Authority, request *fleet.Request, life time.Duration) (enrolled, error) {
	r, err := authority.Rehearse(request, life, p.Now(), rand.Reader)
	if err != nil {
		return enrolled{}, err
	}
	return enrolled{
		Issuer: authority.Issuer.Name, Profile: string(authority.Issuer.Policy.Profile), NotBefore: cli.Stamp(r.NotBefore), NotAfter: cli.Stamp(r.NotAfter),
		Algorithm: r.Algorithm.String(), Checked: r.Checked, Lint: append([]string{}, r.Faults...),
	}, nil
}

// enlist puts the site on the roster, as it was asked for.
func (a responderAdd) enlist(ctx context.Context, store *masterdb.DB, act db.Act) error {
	if _, err := store.AddResponder(ctx, a.site, a.url, a.addresses, act); err != nil {
		return err
	}
	if err := setFeedPin(ctx, store, a.site, a.feedPin, act); err != nil {
		return err
	}
	if a.login != "" {
		if _, err := store.SetSiteLogin(ctx, a.site, a.login, act); err != nil {
			return err
		}
	}
	return nil
}

// enrol has the certificates made that were rehearsed. A CA's signature cannot be taken
// back: it is no part of what is tried.
func (p *program) enrol(ctx context.Context, store *masterdb.DB, authorities []*fleet.Authority, request *fleet.Request, a responderAdd, act db.Act, result *responderAdded) error {
	for i, authority := range authorities {
		c, err := fleet.Enrol(ctx, store, authority, request, a.life, p.Now(), rand.Reader, act)
		if err != nil {
			return fmt.Errorf("%w (%d of %d certificates were made: run it again)", err, i, len(authorities))
		}
		if err := result.Certificates[i].describe(c, a.out); err != nil {
			return err
		}
	}
	return nil
}

// describe fills in one new certificate, and writes it to the folder if there is one.
func (e *enrolled) describe(c db.ResponderCertificate, dir string) error {
	parsed, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return fmt.Errorf("reading the new certificate: %w", err)
	}
	e.Serial, e.Fingerprint = new(c.Serial.String()), new(hex.EncodeToString(c.Fingerprint[:]))
	e.NotBefore, e.NotAfter = cli.Stamp(parsed.NotBefore), cli.Stamp(parsed.NotAfter)
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, c.Site+"-"+e.Issuer+".pem")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), 0o644); err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	e.File = &path
	return nil
}

func (r responderAdded) tell(t *cli.Table) {
	t.Row("site", r.Site)
	t.Row("url", r.URL)
	t.Row("key fingerprint", r.Key)
	t.Row("key kind", r.Kind)
	if r.FeedPin != nil {
		t.Row("feed pin", *r.FeedPin)
	}
	t.Row("life", r.Life)
	t.Line("")
	t.Row("ISSUER", "PROFILE", "SERIAL", "NOT BEFORE", "NOT AFTER", "SIGNED WITH", "LINT", "FILE")
	for _, c := range r.Certificates {
		lint := "ok"
		if len(c.Lint) > 0 {
			lint = strings.Join(c.Lint, "; ")
		}
		t.Row(c.Issuer, c.Profile, cli.OrDash(c.Serial), c.NotBefore, c.NotAfter, c.Algorithm, lint, cli.OrDash(c.File))
	}
	for _, c := range r.Certificates {
		t.Line(fmt.Sprintf("Clients check the responder for issuer %s %s.", c.Issuer, c.Checked))
	}
	if !r.Applied {
		t.Line("Compare the fingerprint with the site's by another way before you approve.")
	}
	r.Outcome.Tell(t)
}
