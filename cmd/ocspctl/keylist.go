package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/hsm"
	"ocspfleet/migrations"

	"github.com/spf13/cobra"
)

// tokenInfoView is what a token says of itself.
type tokenInfoView struct {
	Label        string   `json:"label"`
	Serial       string   `json:"serial"`
	Manufacturer string   `json:"manufacturer"`
	Model        string   `json:"model"`
	Module       string   `json:"module"`
	Mechanisms   []string `json:"mechanisms"`    // of those that are needed
	Signing      int      `json:"sessions"`      // that sign at a time, as this program opens it
	Most         *int     `json:"most_sessions"` // that the token allows; null: no limit told
}

// keyCertificate is a responder certificate of a key of the token.
type keyCertificate struct {
	Issuer   string `json:"issuer"`
	Serial   string `json:"serial"`
	NotAfter string `json:"not_after"`
	State    string `json:"state"` // good, revoked, expired, not yet valid, unknown

	needed bool // not ended, and not revoked for ever
}

// listedKey is a key with its certificates; null: no database was asked.
type listedKey struct {
	keyView
	Certificates []keyCertificate `json:"certificates"`
}

type keyListing struct {
	Token tokenInfoView `json:"token"`
	Keys  []listedKey   `json:"keys"`
	Odd   []string      `json:"remarks"` // on keys that are not used or not told apart
}

func (p *program) keyListCommand() *cobra.Command {
	return p.Command("list", "show the token, its keys, and the certificates of each", `
		ocspctl key list
		ocspctl key list --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			cfg, err := p.config()
			if err != nil {
				return err
			}
			return p.atToken(ctx, func(token *hsm.Token) error { return p.keyList(ctx, cfg, token) })
		})
}

func (p *program) keyList(ctx context.Context, cfg *config.Config, token *hsm.Token) error {
	keys, err := token.Keys()
	if err != nil {
		return err
	}
	odd, err := token.Oddities()
	if err != nil {
		return err
	}
	listing := keyListing{Token: viewInfo(token.Info()), Keys: make([]listedKey, len(keys)), Odd: append([]string{}, odd...)}
	for i, key := range keys {
		listing.Keys[i] = listedKey{keyView: viewKey(key)}
	}
	if cfg.Database.DSN != "" && cfg.Role == string(migrations.Site) {
		known, err := p.siteCertificates(ctx, cfg)
		if err != nil { // the token was what was asked for
			fmt.Fprintf(p.Stderr, "ocspctl: the certificates were not looked at: %v\n", err)
		}
		for i := range listing.Keys {
			if err == nil {
				listing.Keys[i].Certificates = append([]keyCertificate{}, known[keys[i].Fingerprint]...)
			}
		}
	}
	return p.Print(listing, listing.tell)
}

func viewInfo(info hsm.TokenInfo) tokenInfoView {
	view := tokenInfoView{
		Label: info.Label, Serial: info.Serial, Manufacturer: info.Manufacturer, Model: info.Model, Module: info.Module,
		Mechanisms: info.Mechanisms, Signing: info.Sessions,
	}
	if info.MostOpen > 0 {
		view.Most = &info.MostOpen
	}
	return view
}

// siteCertificates returns the responder certificates in the site's copy by the
// SHA-256 of their keys.
func (p *program) siteCertificates(ctx context.Context, cfg *config.Config) (map[[32]byte][]keyCertificate, error) {
	store, err := sitedb.Open(ctx, cfg.Database.Settings())
	if err != nil {
		return nil, err
	}
	defer store.Close()
	var issuers []db.Issuer
	var rows []db.ResponderCertificate
	if err := store.ReadTx(ctx, func(ctx context.Context, l *sitedb.ReadTx) error {
		var err error
		if issuers, err = l.Issuers(ctx); err == nil {
			rows, err = l.ResponderCertificates(ctx)
		}
		return err
	}); err != nil {
		return nil, err
	}
	names := map[db.IssuerID]string{}
	for _, issuer := range issuers {
		names[issuer.ID] = issuer.Name
	}
	known := map[[32]byte][]keyCertificate{}
	for _, row := range rows {
		c, err := x509.ParseCertificate(row.DER)
		if err != nil {
			return nil, fmt.Errorf("reading responder certificate %s of issuer %q: %w", row.Serial, names[row.IssuerID], err)
		}
		status, err := store.Certificate(ctx, row.IssuerID, row.Serial)
		known[row.KeyHash] = append(known[row.KeyHash], keyCertificate{
			Issuer: cmp.Or(names[row.IssuerID], fmt.Sprint(row.IssuerID)), Serial: row.Serial.String(),
			NotAfter: cli.Stamp(c.NotAfter), State: certificateState(c, status, err, p.Now()),
			needed: p.Now().Before(c.NotAfter) && (err != nil || !status.Permanent()),
		})
	}
	return known, nil
}

func certificateState(c *x509.Certificate, status db.Status, err error, now time.Time) string {
	switch {
	case err != nil:
		return "unknown"
	case status.Revoked:
		return "revoked"
	case now.Before(c.NotBefore):
		return "not yet valid"
	case !now.Before(c.NotAfter):
		return "expired"
	}
	return "good"
}

func (l keyListing) tell(t *cli.Table) {
	t.Row("token", fmt.Sprintf("%s, serial number %s, %s %s", l.Token.Label, l.Token.Serial, l.Token.Manufacturer, l.Token.Model))
	t.Row("library", l.Token.Module)
	t.Row("mechanisms", cmp.Or(strings.Join(l.Token.Mechanisms, ", "), "none that is needed"))
	most := "the token tells no limit"
	if l.Token.Most != nil {
		most = fmt.Sprintf("the token allows %d", *l.Token.Most)
	}
	t.Row("sessions", most)
	t.Line("")
	t.Row("LABEL", "KIND", "FINGERPRINT", "ID", "CERTIFICATES")
	for _, k := range l.Keys {
		var certificates []string
		for _, c := range k.Certificates {
			certificates = append(certificates, fmt.Sprintf("%s %s until %s", c.Issuer, c.State, c.NotAfter))
		}
		none := "not looked at"
		if k.Certificates != nil {
			none = "none"
		}
		t.Row(k.Label, k.Kind, k.Fingerprint, k.ID, cmp.Or(strings.Join(certificates, "; "), none))
	}
	for _, odd := range l.Odd {
		t.Line(odd)
	}
}
