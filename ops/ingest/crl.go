package ingest

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"ocspfleet/db"
)

// maxCRL bounds a CRL in octets: it is held whole, since its signature covers
// it all. 64 MiB are about 1.7 million revocations.
const maxCRL = 64 << 20

// crlForm is a revocation list (RFC 5280 section 5) of the issuer's own.
type crlForm struct {
	issuer *x509.Certificate
	now    time.Time
	last   *big.Int
	file   *File
	size   int64

	entries cryptobyte.String // nil until the first reading
}

func newCRLForm(o *Options, f *File) (form, error) {
	issuer, err := issuerCertificate(o.Issuer)
	return &crlForm{issuer: issuer, now: o.Now, last: o.LastCRL, file: f, size: f.size}, err
}

// issuerCertificate reads the certificate that the master has of the issuer.
func issuerCertificate(issuer db.Issuer) (*x509.Certificate, error) {
	certificate, err := x509.ParseCertificate(issuer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of issuer %q: %w", issuer.Name, err)
	}
	return certificate, nil
}

func (f *crlForm) read(in io.Reader, emit func(entry) error) error {
	if f.entries == nil {
		der, err := readDER(in, "X509 CRL", f.size)
		if err != nil {
			return err
		}
		head, entries, err := openCRL(der, f.issuer)
		if err != nil {
			return err
		}
		if head.ThisUpdate.After(f.now.Add(db.MaxClockSkew)) {
			return fmt.Errorf("it was made in the future (%s)", head.ThisUpdate.UTC().Format(time.RFC3339))
		}
		for _, extension := range head.Extensions {
			if extension.Id.String() == "2.5.29.28" {
				f.file.saw(pointsOfIDP(extension.Value)...)
			}
		}
		f.file.CRL = &CRL{Number: head.Number, ThisUpdate: head.ThisUpdate.UTC(), NextUpdate: head.NextUpdate.UTC()}
		if f.last != nil && head.Number != nil && head.Number.Cmp(f.last) < 0 {
			return fmt.Errorf("its number is %d, and number %d was imported before: want the newest (--older-crl takes it)", head.Number, f.last)
		}
		f.entries = entries
	}
	number := int64(0)
	for rest := f.entries; !rest.Empty(); {
		number++
		place := Place{Row: number}
		var one cryptobyte.String
		if !rest.ReadASN1(&one, asn1.SEQUENCE) {
			return emit(bad(place, "is no DER: want a revoked certificate"))
		}
		row, err := parseRevoked(one)
		e := entry{place: place, row: row}
		if err != nil {
			e.problem = err.Error()
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// readDER reads a file that is DER, or one PEM block of this type.
func readDER(in io.Reader, kind string, size int64) ([]byte, error) {
	limited := io.LimitReader(in, 2*maxCRL)
	start := make([]byte, 1)
	if _, err := io.ReadFull(limited, start); err != nil {
		return nil, errCut
	}
	var der io.Reader = io.MultiReader(bytes.NewReader(start), limited)
	if start[0] != 0x30 {
		der = base64.NewDecoder(base64.StdEncoding, &pemBody{s: newScanner(der), kind: kind})
	}
	var b bytes.Buffer
	b.Grow(int(min(size, maxCRL)) + bytes.MinRead)
	n, err := b.ReadFrom(io.LimitReader(der, maxCRL+1))
	switch {
	case err != nil:
		return nil, err
	case n > maxCRL:
		return nil, fmt.Errorf("it has over %d MiB: want at most that", maxCRL>>20)
	}
	return b.Bytes(), nil
}

var (
	oidReason       = []byte{0x55, 0x1d, 21}
	oidInvalidity   = []byte{0x55, 0x1d, 24}
	oidCertIssuer   = []byte{0x55, 0x1d, 29}
	errNoCRL        = errors.New("it is no CRL in DER or PEM, or is cut short")
	errDelta        = errors.New("it is a delta CRL, which says only what changed: want the full one (RFC 5280 section 5.2.4)")
	errIndirect     = errors.New("it is an indirect CRL, with other issuers' certificates: want the issuer's own (RFC 5280 section 5.2.5)")
	errPartReasons  = errors.New("it holds revocations for some reasons only: want the full one (RFC 5280 section 5.2.5)")
	errAttributes   = errors.New("it is about attribute certificates: want the one for certificates (RFC 5280 section 5.2.5)")
	tagSomeReasons  = asn1.Tag(3).ContextSpecific()
	tagIndirect     = asn1.Tag(4).ContextSpecific()
	tagOnlyAttrCert = asn1.Tag(5).ContextSpecific()
)

// openCRL checks a CRL as a whole and returns what it says of itself, and the
// content of revokedCertificates. Those are not parsed here: crypto/x509 would
// take 300 octets of memory for each.
func openCRL(der []byte, issuer *x509.Certificate) (*x509.RevocationList, cryptobyte.String, error) {
	input := cryptobyte.String(der)
	var outer, tbs, signed cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1Element(&signed, asn1.SEQUENCE) {
		return nil, nil, errNoCRL
	}
	if !input.Empty() {
		return nil, nil, fmt.Errorf("%d octets stand after its end", len(input))
	}
	rest := signed
	if !rest.ReadASN1(&tbs, asn1.SEQUENCE) {
		return nil, nil, errNoCRL
	}
	var b cryptobyte.Builder
	var entries cryptobyte.String
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for place := 0; !tbs.Empty(); place++ {
				var element cryptobyte.String
				var tag asn1.Tag
				if !tbs.ReadAnyASN1Element(&element, &tag) {
					b.SetError(errNoCRL)
					return
				}
				// version, signature, issuer, thisUpdate, nextUpdate before it.
				if tag == asn1.SEQUENCE && place >= 4 {
					content := element
					content.ReadASN1(&entries, asn1.SEQUENCE)
					continue
				}
				b.AddBytes(element)
			}
		})
		b.AddBytes(outer)
	})
	small, err := b.Bytes()
	if err != nil {
		return nil, nil, errNoCRL
	}
	head, err := x509.ParseRevocationList(small)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the CRL: %w", err)
	}
	if !bytes.Equal(head.RawIssuer, issuer.RawSubject) {
		return nil, nil, fmt.Errorf("it is the CRL of %q, not of %q", head.Issuer, issuer.Subject)
	}
	if err := issuer.CheckSignature(head.SignatureAlgorithm, signed, head.Signature); err != nil {
		return nil, nil, fmt.Errorf("it does not bear the signature of %q: %w", issuer.Subject, err)
	}
	if entries == nil {
		entries = cryptobyte.String{}
	}
	return head, entries, scopeOf(head)
}

// scopeOf refuses CRLs that do not say all about the issuer's certificates.
func scopeOf(head *x509.RevocationList) error {
	for _, extension := range head.Extensions {
		switch id := extension.Id.String(); {
		case id == "2.5.29.27":
			return errDelta
		case id == "2.5.29.28":
			if err := scopeOfIDP(extension.Value); err != nil {
				return err
			}
		case extension.Critical:
			return fmt.Errorf("it has the critical extension %s, which this program does not know (RFC 5280 section 5.2)", extension.Id)
		}
	}
	return nil
}

// scopeOfIDP reads an IssuingDistributionPoint (RFC 5280 section 5.2.5).
func scopeOfIDP(value cryptobyte.String) error {
	var idp cryptobyte.String
	if !value.ReadASN1(&idp, asn1.SEQUENCE) {
		return errNoCRL
	}
	for !idp.Empty() {
		var field cryptobyte.String
		var tag asn1.Tag
		if !idp.ReadAnyASN1(&field, &tag) {
			return errNoCRL
		}
		set := len(field) == 1 && field[0] != 0
		switch {
		case tag == tagIndirect && set:
			return errIndirect
		case tag == tagOnlyAttrCert && set:
			return errAttributes
		case tag == tagSomeReasons:
			return errPartReasons
		}
	}
	return nil
}

// pointsOfIDP are the URLs of the distribution point's full name.
func pointsOfIDP(value cryptobyte.String) (urls []string) {
	var idp, point, names cryptobyte.String
	constructed := asn1.Tag(0).ContextSpecific().Constructed()
	if !value.ReadASN1(&idp, asn1.SEQUENCE) || !idp.ReadASN1(&point, constructed) || !point.ReadASN1(&names, constructed) {
		return nil
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return urls
		}
		if tag == asn1.Tag(6).ContextSpecific() {
			urls = append(urls, string(name))
		}
	}
	return urls
}

// parseRevoked reads one revoked certificate (RFC 5280 section 5.1.2.6).
func parseRevoked(one cryptobyte.String) (db.Row, error) {
	row := db.Row{NoEnd: true, Status: db.Status{Revoked: true, Reason: db.ReasonNone}}
	var serial cryptobyte.String
	if !one.ReadASN1(&serial, asn1.INTEGER) || len(serial) == 0 {
		return row, errors.New("is no DER: want a serial")
	}
	if len(serial) > 1 && (serial[0] == 0 && serial[1] < 0x80 || serial[0] == 0xff && serial[1] >= 0x80) {
		return row, fmt.Errorf("serial %s: is not in its shortest form (X.690 section 8.3.2)", short(fmt.Sprintf("%x", []byte(serial))))
	}
	row.Serial = db.Serial(serial)
	if err := readTime(&one, &row.Status.RevokedAt); err != nil {
		return row, err
	}
	if one.Empty() {
		return row, nil
	}
	var extensions cryptobyte.String
	if !one.ReadASN1(&extensions, asn1.SEQUENCE) || !one.Empty() {
		return row, errors.New("is no DER: want extensions and nothing after them")
	}
	for !extensions.Empty() {
		if err := readEntryExtension(&extensions, &row.Status.Reason); err != nil {
			return row, err
		}
	}
	return row, nil
}

// readTime reads a Time: UTCTime, or GeneralizedTime from 2050 on.
func readTime(in *cryptobyte.String, out *time.Time) error {
	ok := false
	if in.PeekASN1Tag(asn1.UTCTime) {
		ok = in.ReadASN1UTCTime(out)
	} else {
		ok = in.ReadASN1GeneralizedTime(out)
	}
	if !ok {
		return errors.New("is no DER: want a revocation time")
	}
	*out = out.UTC()
	return nil
}

func readEntryExtension(in *cryptobyte.String, reason *db.Reason) error {
	var extension, oid, value cryptobyte.String
	var critical bool
	if !in.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		extension.PeekASN1Tag(asn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
		!extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
		return errors.New("is no DER: want an extension")
	}
	switch {
	case bytes.Equal(oid, oidReason):
		var code int
		if !value.ReadASN1Enum(&code) || !value.Empty() {
			return errors.New("has a reason that is no ENUMERATED")
		}
		var err error
		*reason, err = parseCode(fmt.Sprint(code))
		return err
	case bytes.Equal(oid, oidCertIssuer):
		return errors.New("names its issuer: the CRL is an indirect one (RFC 5280 section 5.3.3)")
	case critical && !bytes.Equal(oid, oidInvalidity):
		return fmt.Errorf("has a critical extension (%x) that this program does not know (RFC 5280 section 5.3)", []byte(oid))
	}
	return nil
}
