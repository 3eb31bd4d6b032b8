package main

import (
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
	"slices"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/fleet"
	"ocspfleet/sync/feed"
)

func (p *program) responderCommand() *cobra.Command {
	return noun("responder", "the sites and their OCSP certificates", p.responderAddCommand(), p.responderListCommand(), p.responderRevokeCommand())
}

// responderAdd holds the flags of responder add.
type responderAdd struct {
	change
	site, csr, url string
	addresses      []string
	issuers        []string
	life           time.Duration
	out            string
	feedPin        string
}

func (p *program) responderAddCommand() *cobra.Command {
	var a responderAdd
	cmd := p.verb("add SITE", "enrol a site: certify its key for each issuer; again, with the same request: renew", `
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/ --feed-pin 1f3a... --apply
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/ --issuer web-ca --life 168h --out certs --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			a.site = args[0]
			return p.atMaster(ctx, func(store *db.Store, cfg *config) error { return p.responderAdd(ctx, store, cfg, a) })
		})
	f := cmd.Flags()
	f.StringVar(&a.csr, "csr", "", "the site's certificate request (ocspctl key csr) in `FILE`")
	f.StringVar(&a.url, "url", "", "the `URL` of its OCSP responder")
	f.StringArrayVar(&a.addresses, "address", nil, "an IP `ADDRESS` of the site; may stand several times")
	f.StringArrayVar(&a.issuers, "issuer", nil, "an issuer's `NAME`; may stand several times (default: all)")
	f.DurationVar(&a.life, "life", fleet.DefaultLife, "how long its certificates live (1h to 2160h)")
	f.StringVar(&a.out, "out", "", "write the certificates to `DIR`, too, as SITE-ISSUER.pem")
	f.StringVar(&a.feedPin, "feed-pin", "", "let it fetch the signed feed: the `PIN` of its TLS key (ocspctl key pin there)")
	a.flags(cmd)
	require(cmd, "csr", "url")
	return cmd
}

func (a *responderAdd) check() error {
	if err := db.CheckSite(a.site); err != nil {
		return usagef("%v", err)
	}
	u, err := url.Parse(a.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return usagef("--url %q: want http://HOST/ or https://HOST/", a.url)
	}
	for _, address := range a.addresses {
		if _, err := netip.ParseAddr(address); err != nil {
			return usagef("--address %q: want an IPv4 or IPv6 address", address)
		}
	}
	if a.feedPin != "" {
		if _, err := feed.ParsePin(a.feedPin); err != nil {
			return usagef("--feed-pin: %v", err)
		}
	}
	if a.life < time.Hour || a.life > fleet.MaxLife {
		return usagef("--life %s: want 1h to %s", a.life, fleet.MaxLife)
	}
	return nil
}

// enrolled is what responder add prints of one issuer.
type enrolled struct {
	Issuer      string  `json:"issuer"`
	Profile     string  `json:"profile"`
	Serial      *string `json:"serial"` // null: planned
	NotAfter    *string `json:"not_after"`
	Fingerprint *string `json:"fingerprint"` // SHA-256 of the certificate
	File        *string `json:"file"`
}

type responderAdded struct {
	outcome
	Site         string     `json:"site"`
	URL          string     `json:"url"`
	Key          string     `json:"key_fingerprint"` // SHA-256 of the SubjectPublicKeyInfo: compare it out of band
	FeedPin      *string    `json:"feed_pin"`        // null: none was given
	Life         string     `json:"life"`
	Certificates []enrolled `json:"certificates"`
}

func (p *program) responderAdd(ctx context.Context, store *db.Store, cfg *config, a responderAdd) error {
	if err := a.check(); err != nil {
		return err
	}
	act, err := a.act()
	if err != nil {
		return err
	}
	raw, err := readSmall(a.csr)
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
	authorities, err := p.authorities(ctx, store, cfg, a.issuers)
	if err != nil {
		return err
	}
	if a.life > fleet.DefaultLife {
		fmt.Fprintf(p.stderr, "ocspctl: a life of %s: if the site is broken into, it can lie to clients for as long (the default is %s)\n", a.life, fleet.DefaultLife)
	}
	result := responderAdded{
		outcome: outcome{"responder add", a.apply, true}, Site: a.site, URL: a.url,
		Key: hex.EncodeToString(request.KeyHash[:]), FeedPin: textOrNil(a.feedPin), Life: a.life.String(),
	}
	if !a.apply {
		for _, authority := range authorities {
			result.Certificates = append(result.Certificates, enrolled{Issuer: authority.Issuer.Name, Profile: string(authority.Issuer.Policy.Profile)})
		}
		return p.print(result, result.tell)
	}
	if _, err := store.AddResponder(ctx, a.site, a.url, a.addresses, act); err != nil {
		return err
	}
	if a.feedPin != "" {
		pin, err := feed.ParsePin(a.feedPin)
		if err != nil {
			return err
		}
		if _, err := store.SetFeedPin(ctx, a.site, pin, act); err != nil {
			return err
		}
	}
	for _, authority := range authorities {
		c, err := fleet.Enrol(ctx, store, authority, request, a.life, p.now(), rand.Reader, act)
		if err != nil {
			return fmt.Errorf("%w (%d of %d certificates were made: run it again)", err, len(result.Certificates), len(authorities))
		}
		line, err := describe(authority, c, a.out)
		if err != nil {
			return err
		}
		result.Certificates = append(result.Certificates, line)
	}
	return p.print(result, result.tell)
}

// authorities takes up the CA keys of the issuers named, or of all. It fails
// before anything is signed if one is not at hand.
func (p *program) authorities(ctx context.Context, store *db.Store, cfg *config, names []string) ([]*fleet.Authority, error) {
	var issuers []db.Issuer
	if len(names) == 0 {
		all, err := store.Issuers(ctx)
		if err != nil {
			return nil, err
		}
		issuers = all
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		issuer, err := issuerNamed(ctx, store, name)
		if err != nil {
			return nil, err
		}
		issuers = append(issuers, issuer)
	}
	if len(issuers) == 0 {
		return nil, fmt.Errorf("there is no issuer yet: ocspctl issuer add")
	}
	authorities := make([]*fleet.Authority, len(issuers))
	for i, issuer := range issuers {
		files, ok := cfg.Issuers[issuer.Name]
		if !ok {
			return nil, fmt.Errorf("the configuration names no CA key for issuer %q: set issuers.%s, or choose others with --issuer", issuer.Name, issuer.Name)
		}
		authority, err := p.authority(issuer, files)
		if err != nil {
			return nil, err
		}
		authorities[i] = authority
	}
	return authorities, nil
}

func (p *program) authority(issuer db.Issuer, files issuerKey) (*fleet.Authority, error) {
	var certificate *x509.Certificate
	var err error
	if files.Certificate != "" {
		certificate, err = readCertificate(files.Certificate)
	} else {
		certificate, err = x509.ParseCertificate(issuer.Certificate)
	}
	if err != nil {
		return nil, fmt.Errorf("taking up the CA of issuer %q: %w", issuer.Name, err)
	}
	key, err := readKey(files.Key)
	if err != nil {
		return nil, fmt.Errorf("taking up the CA of issuer %q: %w", issuer.Name, err)
	}
	return fleet.NewAuthority(issuer, certificate, key, p.now())
}

// describe is one new certificate, written to the folder if there is one.
func describe(authority *fleet.Authority, c db.ResponderCertificate, dir string) (enrolled, error) {
	parsed, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return enrolled{}, fmt.Errorf("reading the new certificate: %w", err)
	}
	line := enrolled{
		Issuer: authority.Issuer.Name, Profile: string(authority.Issuer.Policy.Profile), Serial: new(c.Serial.String()),
		NotAfter: new(stamp(parsed.NotAfter)), Fingerprint: new(hex.EncodeToString(c.Fingerprint[:])),
	}
	if dir == "" {
		return line, nil
	}
	path := filepath.Join(dir, c.Site+"-"+authority.Issuer.Name+".pem")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return enrolled{}, fmt.Errorf("writing the certificate: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), 0o644); err != nil {
		return enrolled{}, fmt.Errorf("writing the certificate: %w", err)
	}
	line.File = &path
	return line, nil
}

func (r responderAdded) tell(t *table) {
	t.row("site", r.Site)
	t.row("url", r.URL)
	t.row("key fingerprint", r.Key)
	if r.FeedPin != nil {
		t.row("feed pin", *r.FeedPin)
	}
	t.row("life", r.Life)
	t.line("")
	t.row("ISSUER", "PROFILE", "SERIAL", "NOT AFTER", "FILE")
	for _, c := range r.Certificates {
		t.row(c.Issuer, c.Profile, orDash(c.Serial), orDash(c.NotAfter), orDash(c.File))
	}
	if !r.Applied {
		t.line("Compare the fingerprint with the site's by another way before you approve.")
	}
	r.outcome.tell(t)
}
