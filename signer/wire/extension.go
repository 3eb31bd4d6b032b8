package wire

import (
	"bytes"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// readExtensions reads an optional Extensions field (RFC 5280 section 4.1):
// requestExtensions, whose known members go into req, or singleRequestExtensions
// of one Request, where req is nil.
//
// RFC 6960 section 4.1.2: an unknown extension is ignored, unless critical; then the request is
// malformed, since RFC 6960 has no error of its own for it. An extension may be in a list once
// only (RFC 5280 section 4.2). An empty list, which RFC 5280 forbids and Bouncy Castle writes,
// counts as none.
func readExtensions(in *cryptobyte.String, tag asn1.Tag, req *Request) error {
	var explicit, list cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&explicit, &present, tag) {
		return malformed("reading the tag")
	}
	if !present {
		return nil
	}
	if !explicit.ReadASN1(&list, asn1.SEQUENCE) || !explicit.Empty() {
		return malformed("want one SEQUENCE of extensions")
	}
	var seen [MaxExtensions][]byte
	for n := 0; !list.Empty(); n++ {
		if n == MaxExtensions {
			return malformed("more than 32 extensions")
		}
		oid, critical, value, ok := readExtension(&list)
		if !ok {
			return malformed("reading an extension")
		}
		for _, earlier := range seen[:n] {
			if bytes.Equal(earlier, oid) {
				return malformed("an extension stands twice")
			}
		}
		seen[n] = oid
		if err := takeExtension(oid, critical, value, req); err != nil {
			return err
		}
	}
	return nil
}

// readExtension reads one Extension. An explicit FALSE is not DER but harmless.
func readExtension(in *cryptobyte.String) (oid []byte, critical bool, value []byte, ok bool) {
	var ext, id, val cryptobyte.String
	if !in.ReadASN1(&ext, asn1.SEQUENCE) || !ext.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) || !validOID(id) {
		return nil, false, nil, false
	}
	if ext.PeekASN1Tag(asn1.BOOLEAN) && !ext.ReadASN1Boolean(&critical) {
		return nil, false, nil, false
	}
	if !ext.ReadASN1(&val, asn1.OCTET_STRING) || !ext.Empty() {
		return nil, false, nil, false
	}
	return id, critical, val, true
}

// takeExtension puts a known extension into req, which is nil for
// singleRequestExtensions.
func takeExtension(oid []byte, critical bool, value []byte, req *Request) error {
	switch string(oid) {
	case oidNonce:
		// Old clients put the nonce into singleRequestExtensions, some of them
		// critical: an answer without nonce serves them, an error does not.
		if req == nil {
			return nil
		}
		return takeNonce(value, req)
	case oidPrefSigAlgs:
		if req != nil {
			return takePreferredSigAlgs(value, req)
		}
	case oidResponse:
		// RFC 6960 section 4.4.3: every client accepts the basic response, so the acceptable
		// types are not read, even when critical.
		if req != nil {
			return nil
		}
	}
	if critical {
		return malformed("an unknown critical extension")
	}
	return nil
}

// takeNonce obeys RFC 9654 section 2.1: 1 to 128 octets in an OCTET STRING inside extnValue; 0
// octets or more than 128 are malformed. Bytes that are not exactly one OCTET STRING are an old
// client's bare nonce: it is ignored, and the answer has no nonce.
func takeNonce(value []byte, req *Request) error {
	in := cryptobyte.String(value)
	var nonce cryptobyte.String
	if !in.ReadASN1(&nonce, asn1.OCTET_STRING) || !in.Empty() {
		return nil
	}
	if len(nonce) == 0 || len(nonce) > MaxNonceLen {
		return malformed(fmt.Sprintf("nonce of %d octets", len(nonce)))
	}
	req.Nonce = nonce
	return nil
}

// takePreferredSigAlgs reads PreferredSignatureAlgorithms, RFC 6960 section
// 4.4.7.1: a SEQUENCE OF { sigIdentifier, pubKeyAlgIdentifier OPTIONAL }.
func takePreferredSigAlgs(value []byte, req *Request) error {
	in := cryptobyte.String(value)
	var list cryptobyte.String
	if !in.ReadASN1(&list, asn1.SEQUENCE) || !in.Empty() {
		return malformed("reading preferred signature algorithms")
	}
	for !list.Empty() {
		var pref cryptobyte.String
		if !list.ReadASN1(&pref, asn1.SEQUENCE) {
			return malformed("reading a preferred signature algorithm")
		}
		start := pref
		if _, _, ok := readAlgorithm(&pref); !ok {
			return malformed("reading a sigIdentifier")
		}
		alg := PreferredSigAlg{Signature: start[:len(start)-len(pref)]}
		if !pref.Empty() {
			alg.PublicKey = pref
			if _, _, ok := readAlgorithm(&pref); !ok || !pref.Empty() {
				return malformed("reading a pubKeyAlgIdentifier")
			}
		}
		if len(req.PreferredSigAlgs) < MaxPreferredSigAlgs {
			req.PreferredSigAlgs = append(req.PreferredSigAlgs, alg)
		}
	}
	return nil
}
