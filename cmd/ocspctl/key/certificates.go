package key

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// certificate is a responder certificate of a key of the token.
type certificate struct {
	issuer   string
	serial   db.Serial
	notAfter time.Time
	state    string // good, revoked, expired, not yet valid, unknown
	needed   bool   // not ended, and not revoked for ever
}

func (c certificate) record() cli.Record {
	return cli.Record{cli.F("issuer", "", c.issuer), cli.F("serial", "", c.serial), cli.F("not_after", "", c.notAfter), cli.F("state", "", c.state)}
}

// siteCertificates returns the responder certificates in the site's copy by the
// SHA-256 of their keys.
func (r *run) siteCertificates(ctx context.Context) (map[[32]byte][]certificate, error) {
	store, err := sitedb.Open(ctx, r.config.DatabaseSettings())
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
	known := map[[32]byte][]certificate{}
	for _, row := range rows {
		c, err := x509.ParseCertificate(row.DER)
		if err != nil {
			return nil, fmt.Errorf("reading responder certificate %s of issuer %q: %w", row.Serial, names[row.IssuerID], err)
		}
		status, err := store.Certificate(ctx, row.IssuerID, row.Serial)
		known[row.KeyHash] = append(known[row.KeyHash], certificate{
			issuer: cmp.Or(names[row.IssuerID], fmt.Sprint(row.IssuerID)), serial: row.Serial,
			notAfter: c.NotAfter, state: stateOf(c, status, err, r.Now()),
			needed: r.Now().Before(c.NotAfter) && (err != nil || !status.Permanent()),
		})
	}
	return known, nil
}

func stateOf(c *x509.Certificate, status db.Status, err error, now time.Time) string {
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
