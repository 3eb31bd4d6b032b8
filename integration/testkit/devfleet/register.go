package devfleet

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ocspfleet/db"
)

// The policy of both issuers. fleet.json tells it, ocspctl is told it.
var policy = Policy{NeverIssued: "unknown", Profile: "revocable", Validity: "72h"}

// describe tells of one issuer what fleet.json must know of it.
func (f *Fleet) describe(a *authority, i *issuing) (Issuer, error) {
	leaf, err := leafSerials(i)
	if err != nil {
		return Issuer{}, err
	}
	good, revoked, err := readIndex(i.file("index.txt"), issuedGood+1, len(revocations)+1, leaf)
	if err != nil {
		return Issuer{}, err
	}
	moreGood, moreRevoked, err := readIndex(i.file("generated.txt"), generatedGood, generatedRevoked, nil)
	if err != nil {
		return Issuer{}, err
	}
	described := Issuer{
		Name:         i.name,
		Certificate:  f.Rel(i.file("ca.pem")),
		Chain:        []string{f.Rel(i.file("ca.pem"))},
		TrustAnchors: []string{f.Rel(filepath.Join(a.dir, "root.pem"))},
		Policy:       policy,
		Serials:      Serials{Good: append(good, moreGood...), Revoked: append(revoked, moreRevoked...), NeverIssued: []string{}},
		Leaf: Leaf{
			Good:    LeafCertificate{Certificate: f.Rel(i.file("leaf-good.pem")), Key: f.Rel(i.file("leaf-good.key")), Host: "localhost"},
			Revoked: LeafCertificate{Certificate: f.Rel(i.file("leaf-revoked.pem")), Key: f.Rel(i.file("leaf-revoked.key"))},
		},
	}
	for _, serial := range i.serial.neverIssued {
		described.Serials.NeverIssued = append(described.Serials.NeverIssued, serial.String())
	}
	return described, nil
}

// leafSerials returns the serials of the TLS servers' certificates, which are no
// examples: a test that revokes an example must not break a server.
func leafSerials(i *issuing) (map[string]bool, error) {
	serials := map[string]bool{}
	for _, name := range []string{"leaf-good.pem", "leaf-revoked.pem"} {
		certificate, err := ReadCertificate(i.file(name))
		if err != nil {
			return nil, err
		}
		serials[db.SerialFromMagnitude(certificate.SerialNumber.Bytes(), false).String()] = true
	}
	return serials, nil
}

// ReadCertificate reads a PEM file.
func ReadCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("reading a certificate: no PEM in %s", path)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate in %s: %w", path, err)
	}
	return certificate, nil
}

// importAll has ocspctl register both issuers and all their certificates.
func (f *Fleet) importAll(ctx context.Context, a *authority) error {
	for _, i := range a.issuers {
		if _, err := f.Ctl(ctx, "issuer", "add", "--name", i.name, "--cert", i.file("ca.pem"), "--validity", policy.Validity,
			"--never-issued", policy.NeverIssued, "--profile", policy.Profile,
			"--crl-url", i.crlURL(), "--apply"); err != nil {
			return err
		}
		for _, file := range []string{"index.txt", "generated.txt"} {
			if info, err := os.Stat(i.file(file)); err != nil {
				return fmt.Errorf("looking for what %s issued: %w", i.name, err)
			} else if info.Size() == 0 {
				continue // CERTS asked for no more than openssl issued
			}
			if _, err := f.Ctl(ctx, "cert", "import", "--from", "openssl-index", "--issuer", i.name, i.file(file), "--apply"); err != nil {
				return err
			}
		}
	}
	return nil
}

// Ctl runs the staff's ocspctl at the master and returns what it printed.
func (f *Fleet) Ctl(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, nil, f.Path(f.Ocspctl), append([]string{"--config", f.Path(f.OcspctlConfig)}, args...)...)
	return strings.TrimRight(out, "\n"), err
}

// Approve has the second person agree to a request, and sign it if it is a correction.
func (f *Fleet) Approve(ctx context.Context, id int64, correction bool, why string) error {
	args := []string{"--config", f.Path(f.ApproverConfig), "approve", strconv.FormatInt(id, 10), "--why", why, "--apply"}
	if correction {
		args = append(args, "--key", f.Path(f.CorrectKey))
	}
	_, err := run(ctx, nil, f.Path(f.Ocspctl), args...)
	return err
}
