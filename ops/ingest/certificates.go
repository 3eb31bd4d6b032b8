package ingest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// certificateForm is the certificates themselves: a directory, a tar (gzip allowed), or one
// file, in PEM or DER. The issuer's signature proves that a certificate was issued; it says
// nothing about revocation.
type certificateForm struct {
	issuer *x509.Certificate
	file   *File
}

func newCertificateForm(o *Options, f *File) (form, error) {
	issuer, err := issuerCertificate(o.Issuer)
	return certificateForm{issuer, f}, err
}

// The first octets of files, by format.
const (
	gzipMagic = "\x1f\x8b"
	tarMagic  = "ustar" // at tarAt
	tarAt     = 257
)

func (f certificateForm) read(in io.Reader, emit func(entry) error) error {
	b := bufio.NewReaderSize(in, syntax.MaxLine)
	if start, _ := b.Peek(len(gzipMagic)); string(start) == gzipMagic {
		z, err := gzip.NewReader(b)
		if err != nil {
			return fmt.Errorf("unpacking it: %w", err)
		}
		b = bufio.NewReaderSize(z, syntax.MaxLine)
	}
	if start, _ := b.Peek(tarAt + len(tarMagic)); len(start) == tarAt+len(tarMagic) && string(start[tarAt:]) == tarMagic {
		return f.readTar(tar.NewReader(b), emit)
	}
	return f.readFile(b, "", emit)
}

func (f certificateForm) readTar(t *tar.Reader, emit func(entry) error) error {
	for {
		head, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return syntax.ErrCut
		case err != nil:
			return fmt.Errorf("reading the tar: %w", err)
		case head.Typeflag == tar.TypeDir:
			continue
		case head.Typeflag != tar.TypeReg:
			err = emit(entry{place: syntax.Place{Name: head.Name}, skip: skipNoFile})
		default:
			err = f.readFile(bufio.NewReaderSize(t, syntax.MaxLine), head.Name, emit)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return syntax.ErrCut
		}
		if err != nil {
			return err
		}
	}
}

// readFile reads one file of PEM, or of one certificate in DER.
func (f certificateForm) readFile(b *bufio.Reader, name string, emit func(entry) error) error {
	start, err := b.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	place := syntax.Place{Name: name, Row: 1}
	if len(start) == 1 && start[0] == 0x30 {
		der, err := io.ReadAll(io.LimitReader(b, syntax.MaxLine+1))
		if err != nil {
			return err
		}
		if len(der) > syntax.MaxLine {
			return emit(bad(place, "is no certificate: has over 64 KiB"))
		}
		return emit(f.judge(der, place))
	}
	certificates := 0
	found, err := syntax.EachPEM(b, func(kind string, der []byte, line int64, problem string) error {
		switch kind {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
		default:
			return nil
		}
		certificates++
		place := syntax.Place{Name: name, Line: line}
		if problem != "" {
			return emit(entry{place: place, problem: problem})
		}
		return emit(f.judge(der, place))
	})
	switch {
	case err != nil || certificates > 0:
		return err
	case found:
		return emit(entry{place: place, skip: skipNoCert})
	}
	return emit(bad(place, "is neither PEM nor a certificate in DER"))
}

// judge reads serial and end of a certificate of the issuer.
func (f certificateForm) judge(der []byte, place syntax.Place) entry {
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return bad(place, "is no certificate: %v", err)
	case bytes.Equal(der, f.issuer.Raw):
		return entry{place: place, skip: skipOwn}
	case !bytes.Equal(c.RawIssuer, f.issuer.RawSubject):
		return entry{place: place, skip: skipOtherIssuer}
	}
	if err := f.issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		// The same name with another key is another issuer; a certificate with our key
		// identifier, or none, whose signature does not verify is bad.
		if len(c.AuthorityKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, f.issuer.SubjectKeyId) {
			return entry{place: place, skip: skipOtherIssuer}
		}
		return bad(place, "does not bear the issuer's signature: %v", err)
	}
	if !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		f.file.saw(c.CRLDistributionPoints...)
	}
	serial := db.SerialFromMagnitude(c.SerialNumber.Bytes(), c.SerialNumber.Sign() < 0)
	return entry{place: place, row: masterdb.Row{
		Serial: serial, Silent: true,
		Status: db.Status{NotAfter: c.NotAfter.UTC(), Reason: db.ReasonNone},
	}}
}
