package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"ocspfleet/db"
	"ocspfleet/signer/wire"
)

// Identity is one delegated responder certificate with its key. Only the atomic fields change.
type Identity struct {
	cert        *x509.Certificate
	fingerprint [32]byte  // SHA-256 of the certificate
	keyHash     [20]byte  // ResponderID byKey
	spki        [32]byte  // SHA-256 of the SubjectPublicKeyInfo
	issuer      string    // the staff's name, for logs
	row         watched   // its own row in the copy
	end         time.Time // notAfter
	key         crypto.Signer
	hash        crypto.Hash
	algorithm   []byte // AlgorithmIdentifier of its signatures
	keyAlg      []byte // AlgorithmIdentifier of its key

	watch   atomic.Pointer[[]watched]               // rows of all certificates with this key, its own first
	judged  atomic.Pointer[position]                // the copy's position when those rows were last checked
	listed  atomic.Pointer[db.ResponderCertificate] // the first of the rows among which it was last found
	stopped atomic.Bool                             // for good: a later use makes a new Identity
	test    atomic.Pointer[selfTest]                // last self-test, nil before the first
	testing atomic.Bool                             // a test is running; a hung token holds one goroutine, not one per try
}

// watched names a row whose revocation may stop an identity.
type watched struct {
	issuer db.IssuerID
	serial db.Serial
}

// position is a place in the history of the copy.
type position struct{ epoch, position int64 }

// selfTest is the result of one signature and its verification.
type selfTest struct {
	at  time.Time
	err error
}

// newIdentity binds a checked certificate to its key.
func newIdentity(c *candidate, issuer string) (*Identity, error) {
	algorithm, hash, err := wire.SignatureAlgorithm(c.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	keyAlg, _, err := publicKeyParts(c.cert)
	if err != nil {
		return nil, err
	}
	keyHash, err := db.KeyID(c.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	return &Identity{
		cert: c.cert, fingerprint: c.fingerprint, keyHash: keyHash, spki: c.spki, issuer: issuer,
		row: c.row, end: c.cert.NotAfter, key: c.key, hash: hash, algorithm: algorithm, keyAlg: keyAlg,
	}, nil
}

// name is the certificate's name in logs and metrics. It is the fingerprint, not the serial.
func (id *Identity) name() string { return hex.EncodeToString(id.fingerprint[:]) }

// inTime says whether the certificate is valid at now. Some clients accept an expired one, so
// this site must stop by itself.
func (id *Identity) inTime(now time.Time) bool {
	return !now.Before(id.cert.NotBefore) && now.Before(id.end)
}

// mayServe says whether id may sign, from its own fields alone.
func (id *Identity) mayServe(now time.Time) bool { return !id.stopped.Load() && id.inTime(now) }

// serves says whether id is the candidate's identity and still signs.
func (id *Identity) serves(c *candidate) bool {
	return id != nil && id.fingerprint == c.fingerprint && id.row.issuer == c.row.issuer && !id.stopped.Load()
}

// sign signs the DER of tbsResponseData.
func (id *Identity) sign(tbs []byte) ([]byte, error) {
	h := id.hash.New()
	h.Write(tbs)
	return id.key.Sign(rand.Reader, h.Sum(nil), id.hash)
}

// selfTestPrefix begins what self-tests sign. It is not a DER SEQUENCE, so the signature of a
// self-test can never be used as that of an answer.
const selfTestPrefix = "ocspfleet self-test "

// tryKey signs once and verifies with the public key of the certificate. This finds a key that
// was replaced in the token, and one that signs wrongly.
func (id *Identity) tryKey(now time.Time) error {
	text := []byte(selfTestPrefix + now.UTC().Format(time.RFC3339Nano))
	signature, err := id.sign(text)
	if err != nil {
		return fmt.Errorf("signing the self-test: %w", err)
	}
	h := id.hash.New()
	h.Write(text)
	digest := h.Sum(nil)
	switch pub := id.cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(pub, digest, signature) {
			return nil
		}
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(pub, id.hash, digest, signature) == nil {
			return nil
		}
	}
	return errors.New("verifying the self-test: the signature is not that of the certificate's key")
}

// candidate is a row of responder_certificate that may become an identity. The results of its
// checks are kept between refreshes; guarded by refreshMu.
type candidate struct {
	row         watched
	cert        *x509.Certificate
	fingerprint [32]byte
	spki        [32]byte

	linted *authority // the authority that lint belongs to
	lint   error

	key    crypto.Signer // nil: not in the token at the last search
	asked  time.Time     // when the token was last asked for the key
	failed time.Time     // when the self-test last failed before adoption
}

// retryAfter is the wait before the token is asked again for a key that was missing or that
// failed its self-test: the rows of all other sites are candidates too, and a search in a token
// takes about 100 us.
const retryAfter = 5 * time.Second

// newCandidate reads a row.
func newCandidate(row db.ResponderCertificate) (*candidate, error) {
	cert, err := x509.ParseCertificate(row.DER)
	if err != nil {
		return nil, fmt.Errorf("parsing responder certificate: %w", err)
	}
	serial := db.SerialFromMagnitude(cert.SerialNumber.Bytes(), cert.SerialNumber.Sign() < 0)
	if string(serial) != string(row.Serial) {
		return nil, errors.New("parsing responder certificate: its serial is not that of its row")
	}
	return &candidate{
		row: watched{row.IssuerID, serial}, cert: cert,
		fingerprint: sha256.Sum256(row.DER), spki: sha256.Sum256(cert.RawSubjectPublicKeyInfo),
	}, nil
}

// possess asks the token for the key, unless that happened within retryAfter.
func (c *candidate) possess(keys Keyring, now time.Time, force bool) bool {
	if c.key != nil {
		return true
	}
	if !force && now.Sub(c.asked) < retryAfter && !now.Before(c.asked) {
		return false
	}
	c.asked = now
	key, err := keys.Signer(c.cert.PublicKey)
	if err != nil || key == nil {
		return false // normal for the certificates of other sites
	}
	// A key that does not match the certificate makes signatures that no client can verify.
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(c.cert.PublicKey) {
		return false
	}
	c.key = key
	return true
}

// check checks the profile of a responder certificate, as far as a client or an attacker could
// notice. A certificate that fails is never used.
func (c *candidate) check(a *authority) error {
	if c.linted != a {
		c.linted, c.lint = a, lintCertificate(c.cert, a.cert)
	}
	return c.lint
}

// lintCertificate checks a responder certificate of the authority ca. The full profile is
// linted where the certificate is issued.
func lintCertificate(cert, ca *x509.Certificate) error {
	// RFC 6960 section 4.2.2.2: issued directly by the CA named in the CertID.
	if string(cert.RawIssuer) != string(ca.RawSubject) {
		return errors.New("its issuer is not, octet for octet, the pinned subject")
	}
	if err := cert.CheckSignatureFrom(ca); err != nil { // refuses SHA-1 and MD5
		return fmt.Errorf("verifying its signature with the pinned key: %w", err)
	}
	if cert.Version != 3 {
		return errors.New("it is not version 3")
	}
	// With any other use, or as a CA, it would be an intermediate that may answer for its
	// siblings.
	if len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || len(cert.UnknownExtKeyUsage) > 0 {
		return errors.New("its extended key usage is not exactly OCSPSigning")
	}
	if cert.IsCA {
		return errors.New("it is a CA certificate")
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature {
		return errors.New("its key usage is not exactly digitalSignature")
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return errors.New("it has an unknown critical extension")
	}
	_, _, err := wire.SignatureAlgorithm(cert.PublicKey)
	return err
}

// refusal is why an identity may not sign; empty when it may.
type refusal string

const (
	refusalRevoked     refusal = "its certificate is revoked"
	refusalAbsent      refusal = "the copy does not know its certificate"
	refusalCompromised refusal = "its key is compromised"
	refusalWithheld    refusal = "its certificate is no longer among the rows: it was withheld from this site"
)

// checkKey checks the rows of a key; own is the row of the certificate in question. An error
// means that the copy could not be read.
func checkKey(ctx context.Context, source Source, own watched, all []watched, doubt bool) (refusal, error) {
	result := refusal("")
	for _, w := range all {
		st, _, err := source.Lookup(ctx, w.issuer, w.serial)
		absent := errors.Is(err, db.ErrNotIssued)
		if err != nil && !absent {
			return "", err
		}
		mine := w.issuer == own.issuer && string(w.serial) == string(own.serial)
		switch {
		case absent:
			// In a copy in doubt a missing row proves nothing.
			if mine && !doubt {
				result = refusalAbsent
			}
		case st.Revoked && st.Reason == db.ReasonKeyCompromise:
			return refusalCompromised, nil
		case mine && st.Revoked:
			result = refusalRevoked
		}
	}
	return result, nil
}
