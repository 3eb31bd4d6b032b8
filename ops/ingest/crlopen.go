package ingest

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

var (
	errNoCRL        = errors.New("it is no CRL in DER or PEM, or is cut short")
	errDelta        = errors.New("it is a delta CRL, which says only what changed: want the full one (RFC 5280 section 5.2.4)")
	errIndirect     = errors.New("it is an indirect CRL, with other issuers' certificates: want the issuer's own (RFC 5280 section 5.2.5)")
	errPartReasons  = errors.New("it holds revocations for some reasons only: want the full one (RFC 5280 section 5.2.5)")
	errAttributes   = errors.New("it is about attribute certificates: want the one for certificates (RFC 5280 section 5.2.5)")
	tagPoint        = asn1.Tag(0).ContextSpecific().Constructed()
	tagOnlyCAs      = []byte{0x82, 1, 0xff} // onlyContainsCACerts
	tagSomeReasons  = asn1.Tag(3).ContextSpecific()
	tagIndirect     = asn1.Tag(4).ContextSpecific()
	tagOnlyAttrCert = asn1.Tag(5).ContextSpecific()
)

// openCRL checks a CRL as a whole and returns its header and the content of
// revokedCertificates. The entries are not parsed here: crypto/x509 would take 300 octets of
// memory for each.
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
				// After version, signature, issuer, thisUpdate, nextUpdate.
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

// scopeOf refuses CRLs that do not cover all of the issuer's certificates.
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

// shardOf names the part of the issuer's list that a CRL is, by its IssuingDistributionPoint:
// "" is the list of all certificates, or of all users' certificates.
func shardOf(head *x509.RevocationList) (shard string, urls []string) {
	for _, extension := range head.Extensions {
		if extension.Id.String() != "2.5.29.28" {
			continue
		}
		value := cryptobyte.String(extension.Value)
		var idp cryptobyte.String
		if !value.ReadASN1(&idp, asn1.SEQUENCE) {
			continue
		}
		if idp.PeekASN1Tag(tagPoint) || bytes.Contains(idp, tagOnlyCAs) {
			sum := sha256.Sum256(extension.Value)
			shard = hex.EncodeToString(sum[:16])
		}
		urls = pointsOfIDP(extension.Value)
	}
	return shard, urls
}

// pointsOfIDP returns the URLs of the distribution point's full name.
func pointsOfIDP(value cryptobyte.String) (urls []string) {
	var idp, point, names cryptobyte.String
	if !value.ReadASN1(&idp, asn1.SEQUENCE) || !idp.ReadASN1(&point, tagPoint) || !point.ReadASN1(&names, tagPoint) {
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
