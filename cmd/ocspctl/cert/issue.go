package cert

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// issue is cert issue.
type issue struct {
	cli.Change
	Issuer   string `flag:"issuer,required" help:"the issuer's <NAME>"`
	Serial   string `flag:"serial" help:"the serial as openssl x509 -serial prints it (<HEX>, colons allowed)"`
	File     string `flag:"cert" help:"the certificate or pre-certificate, PEM or DER, in <FILE>"`
	NotAfter string `flag:"not-after" help:"the end of its validity, a <TIME> such as 2027-02-01T00:00:00Z"`
}

func (issue) Doc() cli.Doc {
	return cli.Doc{
		Name: "issue", Short: "register a certificate, best before it is signed: from then on it is good",
		Long: `It registers, it does not sign. A serial must be registered before its certificate
(or pre-certificate) is signed: sites answer unknown for a serial they have not.
Doing it again changes nothing. docs/ca-guide.md is for the CA's software.`,
		Example: `
		ocspctl cert issue --issuer web-ca --cert leaf.pem --apply
		ocspctl cert issue --issuer web-ca --serial 5F:03:A1 --not-after 2027-02-01T00:00:00Z --apply`,
		OneOf: "cert serial", Exclusive: "cert serial", Together: "serial not-after",
	}
}

func (v *issue) Run(ctx context.Context, m *ctl.Master) error {
	c, until, err := v.what(ctx, m)
	if err != nil {
		return err
	}
	status := db.Status{NotAfter: until, Reason: db.ReasonNone}
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (changed bool, err error) {
		if changed, err = store.Issue(ctx, c.issuer.ID, c.serial, until, act); err == nil && !changed {
			status, err = store.Certificate(ctx, c.issuer.ID, c.serial)
		}
		return changed, err
	})
	if err != nil {
		return err
	}
	return m.ShowChange(outcome, cli.Object("certificate", c.shown(status).Record()))
}

// what returns the certificate to register, and its end of validity.
func (v *issue) what(ctx context.Context, m *ctl.Master) (c certificate, until time.Time, err error) {
	if v.File == "" {
		if until, err = cli.ParseTime(v.NotAfter); err == nil {
			c, err = named{v.Issuer, v.Serial}.find(ctx, m)
		}
		return c, until, err
	}
	if c.issuer, err = m.Issuer(ctx, v.Issuer); err == nil {
		c.serial, until, err = fromCertificate(c.issuer, v.File)
	}
	return c, until, err
}

// fromCertificate takes serial and end from a certificate of the issuer.
func fromCertificate(issuer db.Issuer, file string) (db.Serial, time.Time, error) {
	certificate, err := ctl.ReadCertificate(file)
	if err != nil {
		return nil, time.Time{}, err
	}
	ca, err := x509.ParseCertificate(issuer.Certificate)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the certificate of issuer %q: %w", issuer.Name, err)
	}
	if !bytes.Equal(certificate.RawIssuer, ca.RawSubject) {
		return nil, time.Time{}, fmt.Errorf("%s was issued by %q, not by issuer %q", file, certificate.Issuer, issuer.Name)
	}
	if err := ca.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s does not bear the signature of issuer %q: %w", file, issuer.Name, err)
	}
	serial := db.SerialFromMagnitude(certificate.SerialNumber.Bytes(), certificate.SerialNumber.Sign() < 0)
	return serial, certificate.NotAfter.UTC(), nil
}
