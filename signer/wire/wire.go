package wire

import (
	"crypto"
	"errors"
	"time"
)

// The bounds of a request. A request beyond them is malformed.
const (
	MaxRequestLen = 16 << 10 // octets of a whole OCSPRequest: 64 SHA-512 CertIDs with 20-octet serials take 10.9 KiB
	MaxCertIDs    = 64       // CertIDs in one request
	MaxNonceLen   = 128      // octets of a nonce, RFC 9654 section 2.1
	MaxExtensions = 32       // extensions in one list; bounds the search for duplicates

	// MaxPreferredSigAlgs is how many preferred signature algorithms are kept;
	// those after them are checked for their form and then ignored.
	MaxPreferredSigAlgs = 16
)

// ErrMalformed is the class of every parse error: the answer is MalformedRequest.
var ErrMalformed = errors.New("malformed OCSP request")

// Request is a parsed OCSPRequest (RFC 6960 section 4.1.1). Its slices point
// into the parsed buffer: the buffer must not change while the Request is used.
type Request struct {
	// CertIDs are the certificates asked for, 1 to MaxCertIDs, in the order sent.
	CertIDs []CertID
	// Nonce is the content of the nonce's inner OCTET STRING, 1 to MaxNonceLen
	// octets; nil when the request has none that can be echoed.
	Nonce []byte
	// PreferredSigAlgs are what the client prefers, in its order (RFC 6960
	// section 4.4.7); empty when it named none.
	PreferredSigAlgs []PreferredSigAlg
}

// PreferredSigAlg is one PreferredSignatureAlgorithm (RFC 6960 section 4.4.7.1):
// two AlgorithmIdentifiers as sent, whole DER SEQUENCEs.
type PreferredSigAlg struct {
	Signature []byte // sigIdentifier
	PublicKey []byte // pubKeyAlgIdentifier; nil when the client named none
}

// CertID names one certificate by its issuer and serial.
type CertID struct {
	Raw      []byte      // the whole CertID SEQUENCE as sent; an answer echoes it byte for byte
	Hash     crypto.Hash // SHA1, SHA256, SHA384 or SHA512; 0 for any other algorithm, or parameters that are neither NULL nor absent
	NameHash []byte      // hash of the issuer's subject Name DER
	KeyHash  []byte      // hash of the issuer's subjectPublicKey BIT STRING content, without the count of unused bits
	Serial   []byte      // content octets of the INTEGER: minimal two's complement, any length from 1, may be negative
}

// CertStatus is the answer about one certificate. The zero value is
// StatusUnknown, so that a forgotten field never says good.
type CertStatus uint8

// The three answers (RFC 6960 section 2.2). Any other value is encoded as unknown.
const (
	StatusUnknown CertStatus = iota
	StatusGood
	StatusRevoked
)

// SingleResponse is the answer for one CertID (RFC 6960 section 4.2.1).
type SingleResponse struct {
	CertID     []byte     // CertID.Raw of the request
	Status     CertStatus // only StatusRevoked uses RevokedAt and Reason
	RevokedAt  time.Time  // revocationTime
	Reason     int        // CRLReason (RFC 5280 section 5.3.1); -1, 0 and numbers that are no CRLReason are left out
	ThisUpdate time.Time  // the latest time at which the status is known to have been correct
	NextUpdate time.Time  // always encoded (RFC 9919); the zero time is encoded as long expired, never as valid for ever
	// ArchiveCutoff is since when status is kept beyond the end of certificates (RFC 6960
	// section 4.4.4); the zero time omits the extension.
	ArchiveCutoff time.Time
}

// ResponseData is what a responder signs (RFC 6960 section 4.2.1), with
// ResponderID byKey and version v1. Times are cut to whole seconds, UTC.
type ResponseData struct {
	ResponderKeyHash [20]byte         // SHA-1 of the signer's subjectPublicKey BIT STRING content
	ProducedAt       time.Time        // time of signing
	Responses        []SingleResponse // one for each CertID asked, in the order asked
	Nonce            []byte           // Request.Nonce; empty omits the extension
	ExtendedRevoke   bool             // add the extended-revoke extension: some serial is revoked because it was never issued
}

// ErrorStatus is the responseStatus of an answer without a signature.
type ErrorStatus uint8

// The error answers (RFC 6960 section 4.2.1); 4 is not used.
const (
	MalformedRequest ErrorStatus = 1
	InternalError    ErrorStatus = 2
	TryLater         ErrorStatus = 3
	SigRequired      ErrorStatus = 5
	Unauthorized     ErrorStatus = 6
)
