package db

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // names a key, protects nothing
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// KeyID returns the identifier of a public key that four standards share: SHA-1 of the content of
// the BIT STRING in a SubjectPublicKeyInfo (DER). It is the subject key identifier of RFC 5280
// section 4.2.1.2 (method 1), the KeyHash of a ResponderID (RFC 6960 section 4.2.1) and the CKA_ID
// of this project's keys in a token.
func KeyID(spki []byte) ([20]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(spki, &info)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows it")
	}
	if err != nil {
		return [20]byte{}, fmt.Errorf("reading the public key: %w", err)
	}
	return sha1.Sum(info.Key.RightAlign()), nil //nolint:gosec // see the import
}

// IssuerKey returns an issuer's identity, a hash of its name and its key (db.Issuer.Key).
func IssuerKey(certificate *x509.Certificate) [32]byte {
	return sha256.Sum256(append(bytes.Clone(certificate.RawSubject), certificate.RawSubjectPublicKeyInfo...))
}
