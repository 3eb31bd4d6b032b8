package wire

import (
	"crypto"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Tags of the explicit fields of OCSPRequest, TBSRequest, Request and Signature.
const (
	tagContext0 = asn1.Tag(tagExplicit + 0)
	tagContext1 = asn1.Tag(tagExplicit + 1)
	tagContext2 = asn1.Tag(tagExplicit + 2)
)

// ParseRequest parses one OCSPRequest in DER. Every error is ErrMalformed.
// The Request points into der.
func ParseRequest(der []byte) (Request, error) {
	var req Request
	err := ParseRequestInto(der, &req)
	return req, err
}

// ParseRequestInto is ParseRequest into a used Request. It reuses the slices of that Request:
// if they have room for the CertIDs nothing is allocated. After an error req is empty.
func ParseRequestInto(der []byte, req *Request) error {
	certIDs, algs := req.CertIDs[:0], req.PreferredSigAlgs[:0]
	*req = Request{CertIDs: certIDs, PreferredSigAlgs: algs}
	if err := parseRequest(der, req); err != nil {
		*req = Request{CertIDs: certIDs, PreferredSigAlgs: algs}
		return fmt.Errorf("parsing OCSP request: %w", err)
	}
	return nil
}

// parseRequest reads OCSPRequest and TBSRequest, RFC 6960 section 4.1.1.
func parseRequest(der []byte, req *Request) error {
	if len(der) > MaxRequestLen {
		return malformed("more than 16384 octets")
	}
	input := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() {
		return malformed("want one SEQUENCE and nothing after it")
	}
	if !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		return malformed("reading tbsRequest")
	}
	if !readSignature(&outer) || !outer.Empty() {
		return malformed("reading optionalSignature")
	}
	if !readVersion(&tbs) {
		return malformed("reading version: want v1")
	}
	if !readRequestorName(&tbs) {
		return malformed("reading requestorName")
	}
	if !tbs.ReadASN1(&list, asn1.SEQUENCE) {
		return malformed("reading requestList")
	}
	if err := readRequestList(list, req); err != nil {
		return err
	}
	if err := readExtensions(&tbs, tagContext2, req); err != nil {
		return fmt.Errorf("reading requestExtensions: %w", err)
	}
	if !tbs.Empty() {
		return malformed("data after the last field of tbsRequest")
	}
	return nil
}

// readSignature reads the form of Signature, if there is one. RFC 9919 section 3.1.2 allows
// ignoring it: requests need no signature.
func readSignature(in *cryptobyte.String) bool {
	var explicit, sig, bits, certs cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&explicit, &present, tagContext0) {
		return false
	}
	if !present {
		return true
	}
	if !explicit.ReadASN1(&sig, asn1.SEQUENCE) || !explicit.Empty() {
		return false
	}
	if _, _, ok := readAlgorithm(&sig); !ok {
		return false
	}
	if !sig.ReadASN1(&bits, asn1.BIT_STRING) || len(bits) == 0 || bits[0] > 7 || (len(bits) == 1 && bits[0] != 0) {
		return false
	}
	if !sig.ReadOptionalASN1(&certs, &present, tagContext0) || !sig.Empty() {
		return false
	}
	return !present || (certs.SkipASN1(asn1.SEQUENCE) && certs.Empty())
}

// readVersion reads version, which is v1(0) by default. An explicit v1 is not DER but harmless,
// so it is accepted.
func readVersion(in *cryptobyte.String) bool {
	var explicit, version cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&explicit, &present, tagContext0) {
		return false
	}
	if !present {
		return true
	}
	return explicit.ReadASN1(&version, asn1.INTEGER) && explicit.Empty() && len(version) == 1 && version[0] == 0
}

// readRequestorName reads the form of requestorName, a GeneralName, if there is one. RFC 9919
// section 3.1.2: handle the request as if it were absent.
func readRequestorName(in *cryptobyte.String) bool {
	var explicit, name cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&explicit, &present, tagContext1) {
		return false
	}
	if !present {
		return true
	}
	var tag asn1.Tag
	const classMask, contextSpecific = 0xc0, 0x80
	return explicit.ReadAnyASN1(&name, &tag) && explicit.Empty() && uint8(tag)&classMask == contextSpecific
}

// readRequestList reads the SEQUENCE OF Request. RFC 6960 does not say that it must hold one;
// an answer without a SingleResponse would have no content, so an empty list is malformed.
func readRequestList(list cryptobyte.String, req *Request) error {
	if list.Empty() {
		return malformed("reading requestList: no CertID")
	}
	for !list.Empty() {
		if len(req.CertIDs) == MaxCertIDs {
			return malformed("reading requestList: more than 64 CertIDs")
		}
		var single cryptobyte.String
		var id CertID
		if !list.ReadASN1(&single, asn1.SEQUENCE) || !readCertID(&single, &id) {
			return malformed("reading a CertID")
		}
		if err := readExtensions(&single, tagContext0, nil); err != nil {
			return fmt.Errorf("reading singleRequestExtensions: %w", err)
		}
		if !single.Empty() {
			return malformed("data after the last field of a Request")
		}
		req.CertIDs = append(req.CertIDs, id)
	}
	return nil
}

// readCertID reads CertID, RFC 6960 section 4.1.1. The serial must be minimal
// (X.690 section 8.3.2): two spellings of one number would be two certificates.
func readCertID(in *cryptobyte.String, id *CertID) bool {
	var raw, body, nameHash, keyHash, serial cryptobyte.String
	if !in.ReadASN1Element(&raw, asn1.SEQUENCE) {
		return false
	}
	id.Raw = raw
	if !raw.ReadASN1(&body, asn1.SEQUENCE) {
		return false
	}
	oid, plain, ok := readAlgorithm(&body)
	if !ok || !body.ReadASN1(&nameHash, asn1.OCTET_STRING) || !body.ReadASN1(&keyHash, asn1.OCTET_STRING) ||
		!body.ReadASN1(&serial, asn1.INTEGER) || !body.Empty() || !minimalInteger(serial) {
		return false
	}
	// Parameters other than NULL or absent would be echoed, and so signed, if an issuer
	// matched. Hash 0 makes sure that none matches.
	if plain {
		id.Hash = hashByOID(oid)
	}
	id.NameHash, id.KeyHash, id.Serial = nameHash, keyHash, serial
	return true
}

// readAlgorithm reads an AlgorithmIdentifier. Plain says that its parameters
// are absent or NULL.
func readAlgorithm(in *cryptobyte.String) (oid []byte, plain, ok bool) {
	var alg, id, params cryptobyte.String
	var tag asn1.Tag
	if !in.ReadASN1(&alg, asn1.SEQUENCE) || !alg.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) || !validOID(id) {
		return nil, false, false
	}
	if alg.Empty() {
		return id, true, true
	}
	if !alg.ReadAnyASN1(&params, &tag) || !alg.Empty() || (tag == asn1.NULL && len(params) != 0) {
		return nil, false, false
	}
	return id, tag == asn1.NULL, true
}

// hashByOID returns the hash, one of those of RFC 9919 section 3.1.1: SHA-256 for new clients,
// SHA-1 for old ones, and SHA-384 and SHA-512 beside them.
func hashByOID(oid []byte) crypto.Hash {
	switch string(oid) {
	case oidSHA1:
		return crypto.SHA1
	case oidSHA256:
		return crypto.SHA256
	case oidSHA384:
		return crypto.SHA384
	case oidSHA512:
		return crypto.SHA512
	}
	return 0
}

// minimalInteger says whether the content octets of an INTEGER are DER.
func minimalInteger(n []byte) bool {
	if len(n) < 2 {
		return len(n) == 1
	}
	return (n[0] != 0 || n[1] >= 0x80) && (n[0] != 0xff || n[1] < 0x80)
}

// validOID says whether the content octets are an OBJECT IDENTIFIER: each arc
// minimal, the last one complete (X.690 section 8.19.2).
func validOID(oid []byte) bool {
	start := true
	for _, b := range oid {
		if start && b == 0x80 {
			return false
		}
		start = b < 0x80
	}
	return len(oid) > 0 && start
}

// malformed returns an ErrMalformed that says where.
func malformed(where string) error { return fmt.Errorf("%s: %w", where, ErrMalformed) }
