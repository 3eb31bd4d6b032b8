package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ocsp"

	"ocspfleet/db"
)

func (p *program) certCommand() *cobra.Command {
	return noun("cert", "the status of single certificates, and imports", p.certIssueCommand(), p.certRevokeCommand(), p.certHoldCommand(), p.certReleaseCommand(),
		p.certCorrectCommand(), p.certShowCommand(), p.certListCommand(), p.certImportCommand(), p.certExportCommand(), p.certReconcileCommand())
}

// named says which certificate is meant.
type named struct{ issuer, serial string }

func (n *named) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.issuer, "issuer", "", "the issuer's `NAME`")
	cmd.Flags().StringVar(&n.serial, "serial", "", "the serial as openssl x509 -serial prints it (`HEX`, colons allowed)")
}

// find resolves both names.
func (n *named) find(ctx context.Context, store *db.Store) (db.Issuer, db.Serial, error) {
	serial, err := db.ParseSerial(n.serial)
	if err != nil {
		return db.Issuer{}, nil, usagef("--serial: %v", err)
	}
	issuer, err := issuerNamed(ctx, store, n.issuer)
	return issuer, serial, err
}

func (p *program) certIssueCommand() *cobra.Command {
	var c change
	var n named
	var file, notAfter string
	cmd := p.verb("issue", "register a certificate, best before it is signed: from then on it is good", `
		ocspctl cert issue --issuer web-ca --cert leaf.pem --apply
		ocspctl cert issue --issuer web-ca --serial 5F:03:A1 --not-after 2027-02-01T00:00:00Z --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certIssue(ctx, store, c, n, file, notAfter) })
		})
	n.flags(cmd)
	cmd.Flags().StringVar(&file, "cert", "", "the certificate or pre-certificate, PEM or DER, in `FILE`")
	cmd.Flags().StringVar(&notAfter, "not-after", "", "the end of its validity, a `TIME` such as 2027-02-01T00:00:00Z")
	c.flags(cmd)
	require(cmd, "issuer")
	cmd.MarkFlagsOneRequired("cert", "serial")
	cmd.MarkFlagsMutuallyExclusive("cert", "serial")
	cmd.MarkFlagsRequiredTogether("serial", "not-after")
	return cmd
}

// certificateChange is what issue and revoke print.
type certificateChange struct {
	outcome
	Certificate certificate `json:"certificate"` // as it is, or with --apply would be
}

func (p *program) printChange(action string, applied, changed bool, c certificate) error {
	result := certificateChange{outcome{action, applied, changed}, c}
	return p.print(result, func(t *table) {
		c.tell(t)
		result.tell(t)
	})
}

func (p *program) certIssue(ctx context.Context, store *db.Store, c change, n named, file, notAfter string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	var issuer db.Issuer
	var serial db.Serial
	var until time.Time
	if file != "" {
		if issuer, err = issuerNamed(ctx, store, n.issuer); err == nil {
			serial, until, err = fromCertificate(issuer, file)
		}
	} else if until, err = parseTime(notAfter); err == nil {
		issuer, serial, err = n.find(ctx, store)
	}
	if err != nil {
		return err
	}
	status, changed := db.Status{NotAfter: until, Reason: db.ReasonNone}, false
	err = store.Try(ctx, c.apply, func(store *db.Store) error {
		if changed, err = store.Issue(ctx, issuer.ID, serial, until, act); err != nil || changed {
			return err
		}
		status, err = store.Certificate(ctx, issuer.ID, serial)
		return err
	})
	if err != nil {
		return err
	}
	return p.printChange("cert issue", c.apply, changed, showStatus(issuer.Name, serial, status))
}

// fromCertificate takes serial and end from a certificate of the issuer.
func fromCertificate(issuer db.Issuer, file string) (db.Serial, time.Time, error) {
	certificate, err := readCertificate(file)
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

func (p *program) certRevokeCommand() *cobra.Command {
	var c change
	var w waiting
	var n named
	var reason, at string
	cmd := p.verb("revoke", "revoke a certificate; all but certificateHold is for ever", `
		ocspctl cert revoke --issuer web-ca --serial 5F03A1 --reason keyCompromise
		ocspctl cert revoke --issuer web-ca --serial 5F03A1 --reason keyCompromise --why 'ticket 4711' --apply
		ocspctl cert revoke --issuer web-ca --serial 5F03A1 --reason keyCompromise --wait --timeout 60s --apply`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if err := w.check(); err != nil {
				return err
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certRevoke(ctx, store, c, n, w, reason, at) })
		})
	cmd.Long = `A hold may become permanent, and keyCompromise replaces another reason; nothing
else changes a revocation: who asks for another time or reason is told so. With
--wait it returns when every active site answers revoked to a real request, says
how long that took and until when caches may still hold a good; after --timeout it
ends with exit code 3 and names the silent site. The revocation stays in any case.

Over 100 revocations an hour, by all logins together, need a second person (the
number is the fleet's: ocspctl db limit; see ocspctl approval request bulk).`
	w.flags(cmd)
	n.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "unspecified", "the `NAME` of RFC 5280: keyCompromise, superseded, certificateHold, ...")
	cmd.Flags().StringVar(&at, "at", "", "the `TIME` of the revocation (default: now, by the master's clock)")
	c.flags(cmd)
	require(cmd, "issuer", "serial")
	return cmd
}

func (p *program) certRevoke(ctx context.Context, store *db.Store, c change, n named, w waiting, reasonName, at string) error {
	reason, err := db.ParseReason(reasonName)
	if err != nil {
		return usagef("--reason: %v", err)
	}
	var when time.Time
	if at != "" {
		if when, err = parseTime(at); err != nil {
			return err
		}
	}
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, serial, err := n.find(ctx, store)
	if err != nil {
		return err
	}
	var status db.Status
	var changed bool
	err = store.Try(ctx, c.apply, func(store *db.Store) error {
		if _, changed, err = store.Revoke(ctx, issuer.ID, serial, reason, when, act); err != nil {
			return err
		}
		if status, err = store.Certificate(ctx, issuer.ID, serial); err != nil {
			return err
		}
		return asAsked(status, reason, when)
	})
	if err != nil {
		return fmt.Errorf("revoking serial %s of issuer %q: %w", serial, issuer.Name, err)
	}
	shown := showStatus(issuer.Name, serial, status)
	if w.wait && c.apply {
		return p.changeAndWait(ctx, store, issuer, serial, ocsp.Revoked, certificateChange{outcome{"cert revoke", true, changed}, shown}, w)
	}
	return p.printChange("cert revoke", c.apply, changed, shown)
}

// asAsked says why a revocation is not the one that was asked for: it was made before,
// and nothing takes it back. No reason and no time ask for none.
func asAsked(status db.Status, reason db.Reason, at time.Time) error {
	is := "no reason"
	if status.Reason != db.ReasonNone {
		is = status.Reason.String()
	}
	switch {
	case reason != db.ReasonNone && reason != status.Reason:
		return fmt.Errorf("it is revoked since %s, for %s: that stays (only keyCompromise replaces another reason; a revocation that was wrong: ocspctl cert correct)",
			stamp(status.RevokedAt), is)
	case !at.IsZero() && !at.Truncate(time.Second).Equal(status.RevokedAt):
		return fmt.Errorf("it is revoked since %s, for %s: the time stays (a revocation that was wrong: ocspctl cert correct)", stamp(status.RevokedAt), is)
	}
	return nil
}

func (p *program) certShowCommand() *cobra.Command {
	var n named
	cmd := p.verb("show", "show what the master says of a certificate", "ocspctl cert show --issuer web-ca --serial 5F03A1",
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certShow(ctx, store, n) })
		})
	n.flags(cmd)
	require(cmd, "issuer", "serial")
	return cmd
}

func (p *program) certShow(ctx context.Context, store *db.Store, n named) error {
	issuer, serial, err := n.find(ctx, store)
	if err != nil {
		return err
	}
	status, err := store.Certificate(ctx, issuer.ID, serial)
	if err != nil && !errors.Is(err, db.ErrNotIssued) {
		return err
	}
	shown := showStatus(issuer.Name, serial, status)
	if err != nil {
		shown = certificate{Issuer: issuer.Name, Serial: serial.String(), Status: "never_issued"}
	}
	return p.print(shown, shown.tell)
}
