package responder

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ca"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/certprofile"
	"ocspfleet/ops/issuance"
)

// add is responder add.
type add struct {
	cli.Change
	Site      string        `arg:"SITE"`
	CSR       string        `flag:"csr,required" help:"the site's certificate request (ocspctl key csr) in <FILE>"`
	URL       string        `flag:"url,required" help:"the <URL> of its OCSP responder"`
	Addresses []string      `flag:"address" help:"an IP <ADDRESS> of the site, to be in the DNS; may stand several times (default: those it has)"`
	Login     string        `flag:"login" help:"its <LOGIN> at the master, of group replica (default: its name with _ for -)"`
	Issuers   []string      `flag:"issuer" help:"an issuer's <NAME>; may stand several times (default: all)"`
	Life      time.Duration `flag:"life" help:"how long its certificates live (1h to 2160h; profile br: 168h at most)"`
	Out       string        `flag:"out" help:"write the certificates to <DIR>, too, as SITE-ISSUER.pem"`
	feedPin
}

func (add) Doc() cli.Doc {
	return cli.Doc{
		Name: "add", Short: "enrol a site: certify its key for each issuer; again, with the same request: renew",
		Long: `Puts the site on the roster and signs one certificate per issuer for its key, with
the CA's key of this configuration (in a token or a file). They travel to the site
as rows; ocspd uses them as soon as they are there. The plan shows the request's
fingerprint, what will be issued, and what the lint says of it: nothing that it
finds at fault is signed. Compare the fingerprint with what the site reads to you
before --apply. Refused are weak keys, keys of other sites or of revoked ones,
requests for another purpose, and a long life for issuers of profile br, whose
responders no client checks. docs/identities.md tells the whole life.`,
		Example: `
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/ --feed-pin 1f3a... --apply
		ocspctl responder add site-b --csr site-b.csr --url http://site-b.example/ --issuer web-ca --life 168h --out certs --apply`,
	}
}

func (v *add) check() error {
	if err := db.CheckSite(v.Site); err != nil {
		return cli.Usagef("%v", err)
	}
	if !isSiteURL(v.URL) {
		return cli.Usagef("--url %q: want http://HOST/ or https://HOST/", v.URL)
	}
	for _, address := range v.Addresses {
		if _, err := netip.ParseAddr(address); err != nil {
			return cli.Usagef("--address %q: want an IPv4 or IPv6 address", address)
		}
	}
	if err := v.feedPin.check(); err != nil {
		return err
	}
	return checkLife(v.Life)
}

func checkLife(life time.Duration) error {
	if life < time.Hour || life > certprofile.MaxLife {
		return cli.Usagef("--life %s: want 1h to %s", life, certprofile.MaxLife)
	}
	return nil
}

// enrolled is the output of responder add for one issuer.
type enrolled struct {
	issuance.Rehearsal
	authority   *issuance.Authority
	certificate db.ResponderCertificate // zero: only planned
	file        string
}

func (e enrolled) record() cli.Record {
	lint, issuer, fingerprint := "ok", db.Issuer{}, any(nil)
	if len(e.Faults) > 0 {
		lint = strings.Join(e.Faults, "; ")
	}
	if e.authority != nil {
		issuer = e.authority.Issuer
	}
	if e.certificate.DER != nil {
		fingerprint = e.certificate.Fingerprint
	}
	return cli.Record{
		cli.F("issuer", "ISSUER", issuer.Name), cli.F("profile", "PROFILE", issuer.Policy.Profile), cli.F("", "SERIAL", e.certificate.Serial),
		cli.F("not_before", "NOT BEFORE", e.NotBefore), cli.F("not_after", "NOT AFTER", e.NotAfter), cli.F("signature_algorithm", "SIGNED WITH", e.Algorithm),
		cli.F("revocation_checked", "", e.Checked), cli.Shown("lint", "LINT", e.Faults, lint), cli.F("serial", "", e.certificate.Serial),
		cli.F("fingerprint", "", fingerprint), cli.F("file", "FILE", cli.OrNil(e.file)),
	}
}

func (v *add) Run(ctx context.Context, m *ctl.Master) error {
	if err := v.check(); err != nil {
		return err
	}
	raw, err := ctl.ReadSmall(v.CSR)
	if err != nil {
		return fmt.Errorf("reading the certificate request: %w", err)
	}
	request, err := issuance.ParseRequest(raw, v.Site)
	if err != nil {
		return err
	}
	if err := m.Store.CheckResponderKey(ctx, request.KeyHash, v.Site); err != nil {
		return err
	}
	if v.Life > certprofile.DefaultLife {
		fmt.Fprintf(m.Stderr, "ocspctl: a life of %s: if the site is broken into, it can lie to clients for as long (the default is %s)\n", v.Life, certprofile.DefaultLife)
	}
	return ca.With(ctx, m, v.Issuers, func(authorities []*issuance.Authority) error {
		var refused error
		var all []enrolled
		for _, authority := range authorities {
			r, err := authority.Rehearse(request, v.Life, m.Now(), rand.Reader)
			if err != nil {
				return err
			}
			refused = cmp.Or(refused, lintError(authority.Issuer.Name, r.Faults))
			all = append(all, enrolled{Rehearsal: r, authority: authority})
		}
		act, err := ctl.Act(v.Change)
		if err != nil {
			return err
		}
		if err := m.Store.Try(ctx, v.Apply && refused == nil, func(store *masterdb.DB) error { return v.enlist(ctx, store, act) }); err != nil {
			return err
		}
		if refused == nil && v.Apply {
			if err := v.enrol(ctx, m, request, act, all); err != nil {
				return err
			}
		}
		if err := v.tell(m, request, all); err != nil {
			return err
		}
		return refused
	})
}

// lintError turns the lint's faults into a plan's error.
func lintError(issuer string, faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("checking the planned certificate of issuer %q: %s", issuer, strings.Join(faults, "; "))
}

// enlist puts the site on the roster, as requested.
func (v *add) enlist(ctx context.Context, store *masterdb.DB, act db.Act) error {
	if _, err := store.AddResponder(ctx, v.Site, v.URL, v.Addresses, act); err != nil {
		return err
	}
	if err := v.feedPin.set(ctx, store, v.Site, act); err != nil {
		return err
	}
	if v.Login != "" {
		if _, err := store.SetSiteLogin(ctx, v.Site, v.Login, act); err != nil {
			return err
		}
	}
	return nil
}

// enrol makes the rehearsed certificates. A CA's signature cannot be taken back: it is not part of
// the try.
func (v *add) enrol(ctx context.Context, m *ctl.Master, request *issuance.Request, act db.Act, all []enrolled) error {
	for i := range all {
		c, err := issuance.Enrol(ctx, m.Store, all[i].authority, request, v.Life, m.Now(), rand.Reader, act)
		if err != nil {
			return fmt.Errorf("%w (%d of %d certificates were made: run it again)", err, i, len(all))
		}
		if err := all[i].describe(c, v.Out); err != nil {
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
	e.certificate, e.NotBefore, e.NotAfter = c, parsed.NotBefore, parsed.NotAfter
	if dir == "" {
		return nil
	}
	e.file = filepath.Join(dir, c.Site+"-"+e.authority.Issuer.Name+".pem")
	if err = os.MkdirAll(dir, 0o755); err == nil {
		err = os.WriteFile(e.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}), 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the certificate: %w", err)
	}
	return nil
}

// tell prints the site with its certificates. The key's fingerprint must be compared over another
// channel.
func (v *add) tell(m *ctl.Master, request *issuance.Request, all []enrolled) error {
	parts := []cli.Part{cli.Record{
		cli.F("site", "site", v.Site), cli.F("url", "url", v.URL), cli.F("key_fingerprint", "key fingerprint", request.KeyHash), cli.F("key_kind", "key kind", request.Kind()),
		cli.Maybe("feed_pin", "feed pin", v.Pin), cli.F("life", "life", v.Life),
	}, cli.Below(cli.List("certificates", all, enrolled.record))}
	for _, e := range all {
		parts = append(parts, cli.Line("Clients check the responder for issuer %s %s.", e.authority.Issuer.Name, e.Checked))
	}
	if !v.Apply {
		parts = append(parts, cli.Line("Compare the fingerprint with the site's by another way before you approve."))
	}
	return m.ShowChange(v.Outcome(true), parts...)
}
