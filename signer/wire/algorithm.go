package wire

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// Content octets of the object identifiers in use.
const (
	oidSHA1   = "\x2b\x0e\x03\x02\x1a"                 // 1.3.14.3.2.26
	oidSHA256 = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384 = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidSHA512 = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"

	oidPKIXOCSP       = "\x2b\x06\x01\x05\x05\x07\x30\x01" // 1.3.6.1.5.5.7.48.1, id-pkix-ocsp
	oidBasic          = oidPKIXOCSP + "\x01"               // id-pkix-ocsp-basic
	oidNonce          = oidPKIXOCSP + "\x02"               // id-pkix-ocsp-nonce
	oidResponse       = oidPKIXOCSP + "\x04"               // id-pkix-ocsp-response
	oidArchiveCutoff  = oidPKIXOCSP + "\x06"               // id-pkix-ocsp-archive-cutoff
	oidPrefSigAlgs    = oidPKIXOCSP + "\x08"               // id-pkix-ocsp-pref-sig-algs
	oidExtendedRevoke = oidPKIXOCSP + "\x09"               // id-pkix-ocsp-extended-revoke
)

// The AlgorithmIdentifiers that we sign with: parameters absent for ECDSA
// (RFC 5758 section 3.2), NULL for RSA (RFC 4055 section 5).
const (
	algECDSAWithSHA256 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	algECDSAWithSHA384 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	algRSAWithSHA256   = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
)

// SignatureAlgorithm returns the AlgorithmIdentifier, in DER, with which a key
// signs answers, and the hash to sign: P-256 with SHA-256, P-384 with SHA-384,
// RSA (PKCS #1 v1.5) of 2048 or 3072 bits with SHA-256. Any other key is an
// error. There is one algorithm per key, whatever a client prefers: RFC 6960
// section 5.1.2 warns of weaker ones at the client's choice.
func SignatureAlgorithm(pub crypto.PublicKey) (alg []byte, hash crypto.Hash, err error) {
	kind := fmt.Sprintf("%T", pub)
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return []byte(algECDSAWithSHA256), crypto.SHA256, nil
		case elliptic.P384():
			return []byte(algECDSAWithSHA384), crypto.SHA384, nil
		}
		if key.Curve != nil {
			kind = "ECDSA on " + key.Curve.Params().Name
		}
	case *rsa.PublicKey:
		if key.N != nil {
			if bits := key.N.BitLen(); bits == 2048 || bits == 3072 {
				return []byte(algRSAWithSHA256), crypto.SHA256, nil
			}
			kind = fmt.Sprintf("RSA of %d bits", key.N.BitLen())
		}
	}
	return nil, 0, fmt.Errorf("choosing the signature algorithm for a key (%s): want P-256, P-384, RSA-2048 or RSA-3072", kind)
}

// SameAlgorithm says whether two AlgorithmIdentifiers, in DER, are the same
// algorithm: equal octets, or equal identifiers where NULL and absent
// parameters count as one, since clients write either.
func SameAlgorithm(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return len(a) > 0
	}
	inA, inB := cryptobyte.String(a), cryptobyte.String(b)
	oidA, plainA, okA := readAlgorithm(&inA)
	oidB, plainB, okB := readAlgorithm(&inB)
	return okA && okB && inA.Empty() && inB.Empty() && plainA && plainB && bytes.Equal(oidA, oidB)
}

// FitsKey says whether a key fits the client's preference; keyAlg is the AlgorithmIdentifier in
// its SubjectPublicKeyInfo. When the client gave no parameters, such as a curve, any key of
// that kind fits, else only one with the same parameters.
func (p PreferredSigAlg) FitsKey(keyAlg []byte) bool {
	if p.PublicKey == nil || SameAlgorithm(p.PublicKey, keyAlg) {
		return true
	}
	wish, have := cryptobyte.String(p.PublicKey), cryptobyte.String(keyAlg)
	wished, plain, ok := readAlgorithm(&wish)
	oid, _, okHave := readAlgorithm(&have)
	return ok && okHave && plain && bytes.Equal(wished, oid)
}
