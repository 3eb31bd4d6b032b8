package sites

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertIDs (RFC 6960 section 4.1.1)
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"ocspfleet/db"

	"golang.org/x/crypto/ocsp"
)

// Verify reads an answer with one status and decides whether a client whose issuer is ca must
// accept it at now (RFC 6960 section 3.2): signed by ca, or by a certificate for OCSP signing that
// ca issued; named by its responder ID; about a certificate of ca, by name and by key; current. An
// OCSP error is an ocsp.ResponseError. An answer with a valid signature that must not be accepted
// is returned with the error.
//
// Verify builds no chain and does not check the revocation of the signer: ca is pinned, and the
// caller knows from the roster whether the signer is a site's own certificate.
func Verify(raw []byte, ca *x509.Certificate, now time.Time) (*ocsp.Response, error) {
	answer, err := ocsp.ParseResponseForCert(raw, nil, ca) // verifies both signatures
	if err != nil {
		return nil, err
	}
	signer := ca
	if answer.Certificate != nil && !bytes.Equal(answer.Certificate.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo) {
		signer = answer.Certificate
	}
	switch {
	case signer != ca && !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return answer, errors.New("the signer's certificate is not for OCSP signing")
	case signer != ca && !bytes.Equal(signer.RawIssuer, ca.RawSubject):
		return answer, errors.New("the signer's certificate names another issuer")
	case now.After(signer.NotAfter):
		return answer, fmt.Errorf("the signer's certificate ended at %s", signer.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(signer.NotBefore):
		return answer, fmt.Errorf("the signer's certificate begins at %s", signer.NotBefore.UTC().Format(time.RFC3339))
	case !namedBy(answer, signer):
		return answer, errors.New("the responder ID is not the signer's")
	case answer.ThisUpdate.After(now.Add(db.MaxClockSkew)):
		return answer, fmt.Errorf("thisUpdate %s lies in the future", answer.ThisUpdate.UTC().Format(time.RFC3339))
	case answer.NextUpdate.IsZero():
		return answer, errors.New("it has no nextUpdate (RFC 9919 section 3.2.4 wants one)")
	case !answer.NextUpdate.After(now):
		return answer, fmt.Errorf("nextUpdate %s lies in the past", answer.NextUpdate.UTC().Format(time.RFC3339))
	}
	return answer, aboutIssuer(answer, ca)
}

// namedBy says whether the responder ID names the certificate: by its subject, or
// by the SHA-1 of its key (RFC 6960 section 4.2.1).
func namedBy(answer *ocsp.Response, signer *x509.Certificate) bool {
	if answer.RawResponderName != nil {
		return bytes.Equal(answer.RawResponderName, signer.RawSubject)
	}
	id, err := db.KeyID(signer.RawSubjectPublicKeyInfo)
	return err == nil && bytes.Equal(answer.ResponderKeyHash, id[:])
}

// aboutIssuer refuses an answer whose CertID names another issuer (RFC 6960 section 4.1.1), which
// package ocsp reads and does not expose.
func aboutIssuer(answer *ocsp.Response, ca *x509.Certificate) error {
	var data struct {
		Raw         asn1.RawContent
		Version     int `asn1:"optional,default:0,explicit,tag:0"`
		ResponderID asn1.RawValue
		ProducedAt  time.Time `asn1:"generalized"`
		Responses   []struct {
			CertID struct {
				HashAlgorithm     pkix.AlgorithmIdentifier
				NameHash, KeyHash []byte
				Serial            *big.Int
			}
		}
	}
	if _, err := asn1.Unmarshal(answer.TBSResponseData, &data); err != nil || len(data.Responses) == 0 {
		return fmt.Errorf("reading the CertID: %w", errors.Join(err, errors.New("the answer has another form than expected")))
	}
	id := data.Responses[0].CertID
	if !answer.IssuerHash.Available() {
		return fmt.Errorf("the CertID's hash %v cannot be computed here", answer.IssuerHash)
	}
	switch {
	case !bytes.Equal(id.NameHash, digest(answer.IssuerHash, ca.RawSubject)):
		return errors.New("the CertID names another issuer")
	case !bytes.Equal(id.KeyHash, digest(answer.IssuerHash, keyBits(ca))):
		return errors.New("the CertID names another issuer's key")
	}
	return nil
}

func digest(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// keyBits returns the content of the BIT STRING subjectPublicKey, which x509 has parsed before.
func keyBits(c *x509.Certificate) []byte {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil // x509 would have refused the certificate
	}
	return spki.Key.RightAlign()
}
