package wire_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/signer/wire"
)

// The second judge beside x/crypto/ocsp: encoding/asn1, which is strict about
// DER and, marshalling again, must give the very octets that we wrote.
type (
	asnResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	asnBasic struct {
		Data         asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	asnData struct {
		KeyHash    []byte    `asn1:"explicit,tag:2"`
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []asnSingle
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	asnSingle struct {
		CertID     asn1.RawValue
		Good       asn1.Flag        `asn1:"tag:0,optional"`
		Revoked    asnRevoked       `asn1:"tag:1,optional"`
		Unknown    asn1.Flag        `asn1:"tag:2,optional"`
		ThisUpdate time.Time        `asn1:"generalized"`
		NextUpdate time.Time        `asn1:"generalized,explicit,tag:0"`
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
	}
	asnRevoked struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	}
)

// unmarshal reads der into value, which must be all of it and nothing but DER.
// It returns an error, since rapid and testing differ in how they fail.
func unmarshal[T any](der []byte) (T, error) {
	var value T
	rest, err := asn1.Unmarshal(der, &value)
	if err != nil {
		return value, err
	}
	if len(rest) > 0 {
		return value, errors.New("trailing data")
	}
	again, err := asn1.Marshal(value)
	if err != nil {
		return value, err
	}
	if !bytes.Equal(again, der) {
		return value, errors.New("not the DER that encoding/asn1 writes: " + cmp.Diff(again, der))
	}
	return value, nil
}

func mustUnmarshal[T any](t *testing.T, der []byte) T {
	t.Helper()
	value, err := unmarshal[T](der)
	if err != nil {
		t.Fatalf("judging %x: %v", der, err)
	}
	return value
}

var (
	produced   = time.Date(2026, 9, 1, 12, 34, 56, 789_000_000, time.FixedZone("CEST", 7200))
	thisUpdate = time.Date(2026, 9, 1, 10, 30, 1, 999, time.UTC)
	nextUpdate = time.Date(2026, 9, 4, 10, 30, 1, 0, time.UTC)
	revokedAt  = time.Date(2025, 2, 28, 23, 59, 59, 0, time.UTC)
)

func single(status wire.CertStatus) wire.SingleResponse {
	return wire.SingleResponse{
		CertID: plainID, Status: status, RevokedAt: revokedAt, Reason: -1,
		ThisUpdate: thisUpdate, NextUpdate: nextUpdate,
	}
}

// The foreign client: it checks the signature of each algorithm, the delegation
// and every field.
func TestAnswersReadByXCrypto(t *testing.T) {
	p := testPKI()
	for hash := range hashOIDs {
		der, err := ocsp.CreateRequest(p.leaf, p.ca, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		id := mustParse(t, der).CertIDs[0]
		for name, s := range p.signers {
			for status, want := range map[wire.CertStatus]int{
				wire.StatusGood: ocsp.Good, wire.StatusRevoked: ocsp.Revoked, wire.StatusUnknown: ocsp.Unknown,
			} {
				one := single(status)
				one.CertID, one.Reason = id.Raw, 4
				got, err := ocsp.ParseResponseForCert(sign(t, s, wire.ResponseData{
					ProducedAt: produced, Responses: []wire.SingleResponse{one}, Nonce: []byte("nonce"),
				}), p.leaf, p.ca)
				if err != nil {
					t.Fatalf("%s, %v, status %d: %v", name, hash, status, err)
				}
				wantReason, wantRevoked := 0, time.Time{}
				if status == wire.StatusRevoked {
					wantReason, wantRevoked = 4, revokedAt
				}
				keyHash := keyHash(t, s.cert)
				if got.Status != want || got.IssuerHash != hash || got.RevocationReason != wantReason || !got.RevokedAt.Equal(wantRevoked) ||
					!got.ProducedAt.Equal(produced.Truncate(time.Second)) || !got.ThisUpdate.Equal(thisUpdate.Truncate(time.Second)) ||
					!got.NextUpdate.Equal(nextUpdate) || !bytes.Equal(got.ResponderKeyHash, keyHash[:]) || !got.Certificate.Equal(s.cert) {
					t.Errorf("%s, %v, status %d: got %+v", name, hash, status, got)
				}
			}
		}
	}
}

// One of our answers, octet for octet, so that a change of the encoding is seen.
func TestMarshalOctets(t *testing.T) {
	data := wire.ResponseData{
		ResponderKeyHash: [20]byte(bytes.Repeat([]byte{0xcc}, 20)), ProducedAt: produced,
		Responses: []wire.SingleResponse{single(wire.StatusGood), single(wire.StatusRevoked), single(wire.StatusUnknown)},
		Nonce:     []byte("nonce"), ExtendedRevoke: true,
	}
	data.Responses[1].Reason, data.Responses[1].ArchiveCutoff = 1, revokedAt
	at := func(s string) []byte { return tlv(0x18, []byte(s)) }
	updates := append(at("20260901103001Z"), explicit(0, at("20260904103001Z"))...)
	want := seq(
		explicit(2, octets(bytes.Repeat([]byte{0xcc}, 20))),
		at("20260901103456Z"),
		seq(
			seq(plainID, []byte{0x80, 0}, updates),
			seq(plainID, tlv(0xa1, at("20250228235959Z"), explicit(0, tlv(0x0a, []byte{1}))), updates,
				explicit(1, seq(extension(pkixOCSP(6), at("20250228235959Z"))))), // RFC 6960 section 4.4.4
			seq(plainID, []byte{0x82, 0}, updates),
		),
		explicit(1, seq(extension(pkixOCSP(2), octets([]byte("nonce"))), extension(pkixOCSP(9), null))),
	)
	if diff := cmp.Diff(want, data.Marshal()); diff != "" {
		t.Error(diff)
	}
}

func TestMarshalBasicOctets(t *testing.T) {
	tbs, alg, signature := seq([]byte{5, 0}), seq(oid(1, 2, 3)), bytes.Repeat([]byte{7}, 300)
	whole := func(certs ...[]byte) []byte {
		basic := seq(append([][]byte{tbs, alg, tlv(0x03, []byte{0}, signature)}, certs...)...)
		return seq(tlv(0x0a, []byte{0}), explicit(0, seq(pkixOCSP(1), octets(basic))))
	}
	a, b := seq([]byte{2, 1, 1}), seq(bytes.Repeat([]byte{0}, 70000))
	for name, c := range map[string]struct{ got, want []byte }{
		"no certificate":   {wire.MarshalBasic(tbs, alg, signature), whole()},
		"one certificate":  {wire.MarshalBasic(tbs, alg, signature, a), whole(explicit(0, seq(a)))},
		"two certificates": {wire.MarshalBasic(tbs, alg, signature, a, b), whole(explicit(0, seq(a, b)))},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: got %x, want %x", name, c.got, c.want)
		}
	}
}

func TestRFC9919_3_2_1_NoExtensionUnasked(t *testing.T) {
	for name, c := range map[string]struct {
		data wire.ResponseData
		want []pkix.Extension
	}{
		"none":            {wire.ResponseData{}, nil},
		"empty nonce":     {wire.ResponseData{Nonce: []byte{}}, nil},
		"nonce":           {wire.ResponseData{Nonce: []byte("n")}, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: []byte{4, 1, 'n'}}}},
		"extended revoke": {wire.ResponseData{ExtendedRevoke: true}, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 9}, Value: null}}},
	} {
		c.data.ProducedAt, c.data.Responses = produced, []wire.SingleResponse{single(wire.StatusGood)}
		if diff := cmp.Diff(c.want, mustUnmarshal[asnData](t, c.data.Marshal()).Extensions); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestRFC5280_5_3_1_ReasonIsWrittenWhenItSaysSomething(t *testing.T) {
	for reason := -3; reason <= 300; reason++ {
		one := single(wire.StatusRevoked)
		one.Reason = reason
		data := wire.ResponseData{ProducedAt: produced, Responses: []wire.SingleResponse{one}}
		got := mustUnmarshal[asnData](t, data.Marshal()).Responses[0].Revoked
		want := asn1.Enumerated(0) // absent: encoding/asn1 would not write it again otherwise
		switch reason {
		case 1, 2, 3, 4, 5, 6, 8, 9, 10:
			want = asn1.Enumerated(reason)
		}
		if got.Reason != want || !got.At.Equal(revokedAt) {
			t.Errorf("reason %d: got %+v", reason, got)
		}
	}
}

// A field that was forgotten must not turn into a promise.
func TestZeroSingleResponseIsUnknownAndExpired(t *testing.T) {
	for status := range 256 {
		one := wire.SingleResponse{CertID: plainID, Status: wire.CertStatus(status), RevokedAt: revokedAt}
		got := mustUnmarshal[asnData](t, wire.ResponseData{Responses: []wire.SingleResponse{one}}.Marshal()).Responses[0]
		good, revoked := wire.CertStatus(status) == wire.StatusGood, wire.CertStatus(status) == wire.StatusRevoked
		if bool(got.Good) != good || bool(got.Unknown) == (good || revoked) {
			t.Errorf("status %d: got %+v", status, got)
		}
		if got.NextUpdate.Year() > 1 {
			t.Errorf("status %d: nextUpdate is %v", status, got.NextUpdate)
		}
	}
}

func TestRFC9919_3_2_4_TimesInZWithSeconds(t *testing.T) {
	for want, at := range map[string]time.Time{
		"20260901103456Z": produced,
		"20000229000000Z": time.Date(2000, 2, 29, 0, 0, 0, 0, time.UTC),
		"19700101000000Z": time.Unix(0, 0), // RFC 6960 section 2.2: revoked since it was never issued
		"19691231235959Z": time.Unix(0, -1),
		"20491231235959Z": time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		"00010101000000Z": {},
		"00000101000000Z": time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
		"99991231235959Z": time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		der := wire.ResponseData{ProducedAt: at}.Marshal()
		if !bytes.Contains(der, append([]byte{0x18, 15}, want...)) {
			t.Errorf("%v: %s is not in %x", at, want, der)
		}
	}
}

func TestRFC6960_2_3_ErrorAnswers(t *testing.T) {
	for status, want := range map[wire.ErrorStatus][]byte{
		wire.MalformedRequest: ocsp.MalformedRequestErrorResponse,
		wire.InternalError:    ocsp.InternalErrorErrorResponse,
		wire.TryLater:         ocsp.TryLaterErrorResponse,
		wire.SigRequired:      ocsp.SigRequredErrorResponse,
		wire.Unauthorized:     ocsp.UnauthorizedErrorResponse,
		0:                     ocsp.InternalErrorErrorResponse, // successful without an answer would be no answer
		4:                     ocsp.InternalErrorErrorResponse,
		200:                   ocsp.InternalErrorErrorResponse,
	} {
		if got := wire.ErrorResponse(status); !bytes.Equal(got, want) {
			t.Errorf("%d: got %x, want %x", status, got, want)
		}
	}
}

func TestSignatureAlgorithmPerKey(t *testing.T) {
	rsaKey := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1), E: 65537}
	}
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		alg  x509.SignatureAlgorithm
		hash crypto.Hash
		der  []byte
	}{
		"P-256":    {&ecdsa.PublicKey{Curve: elliptic.P256()}, x509.ECDSAWithSHA256, crypto.SHA256, seq(oid(1, 2, 840, 10045, 4, 3, 2))},
		"P-384":    {&ecdsa.PublicKey{Curve: elliptic.P384()}, x509.ECDSAWithSHA384, crypto.SHA384, seq(oid(1, 2, 840, 10045, 4, 3, 3))},
		"RSA-2048": {rsaKey(2048), x509.SHA256WithRSA, crypto.SHA256, seq(oid(1, 2, 840, 113549, 1, 1, 11), null)},
		"RSA-3072": {rsaKey(3072), x509.SHA256WithRSA, crypto.SHA256, seq(oid(1, 2, 840, 113549, 1, 1, 11), null)},
	} {
		alg, hash, err := wire.SignatureAlgorithm(c.key)
		if err != nil || hash != c.hash || !bytes.Equal(alg, c.der) {
			t.Errorf("%s: got %x, %v, %v", name, alg, hash, err)
		}
		resp, err := ocsp.ParseResponse(wire.MarshalBasic(wire.ResponseData{
			Responses: []wire.SingleResponse{single(wire.StatusGood)},
		}.Marshal(), alg, nil), nil)
		if err != nil || resp.SignatureAlgorithm != c.alg {
			t.Errorf("%s: x/crypto reads %+v, %v", name, resp, err)
		}
	}
	for name, key := range map[string]crypto.PublicKey{
		"RSA-1024": rsaKey(1024), "RSA-2047": rsaKey(2047), "RSA-4096": rsaKey(4096), "P-224": &ecdsa.PublicKey{Curve: elliptic.P224()},
		"P-521": &ecdsa.PublicKey{Curve: elliptic.P521()}, "Ed25519": ed25519.PublicKey{}, "nil": nil,
		"empty RSA": &rsa.PublicKey{}, "empty ECDSA": &ecdsa.PublicKey{}, "not a pointer": ecdsa.PublicKey{Curve: elliptic.P256()},
	} {
		if alg, hash, err := wire.SignatureAlgorithm(key); err == nil || alg != nil || hash != 0 {
			t.Errorf("%s: got %x, %v, %v", name, alg, hash, err)
		}
	}
}

// The room is reckoned beforehand, so that an answer costs one allocation.
func TestMarshalAllocatesOnce(t *testing.T) {
	full := wire.ResponseData{ProducedAt: produced, Nonce: make([]byte, wire.MaxNonceLen), ExtendedRevoke: true}
	for range wire.MaxCertIDs {
		one := single(wire.StatusRevoked)
		one.CertID, one.Reason = certID(crypto.SHA512, bytes.Repeat([]byte{1}, 20)), 1
		full.Responses = append(full.Responses, one)
	}
	plain := wire.ResponseData{ProducedAt: produced, Responses: []wire.SingleResponse{single(wire.StatusGood)}}
	tbs, alg, signature := plain.Marshal(), seq(oid(1, 2, 3)), make([]byte, 72)
	cert, large := make([]byte, 500), make([]byte, 1<<17)
	for name, marshal := range map[string]func() []byte{
		"plain": plain.Marshal, "full": full.Marshal,
		"basic": func() []byte { return wire.MarshalBasic(tbs, alg, signature, cert) },
		"large": func() []byte { return wire.MarshalBasic(tbs, alg, signature, large) },
	} {
		if n := testing.AllocsPerRun(100, func() { sink = marshal() }); n != 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

var sink []byte // keeps the compiler from putting results on the stack
