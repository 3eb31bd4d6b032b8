package wire_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"ocspfleet/signer/wire"
)

// The DER of the tests is built here, by another encoder than the one tested.

func tlv(tag uint8, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(tag), func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	return b.BytesOrPanic()
}

func seq(parts ...[]byte) []byte                    { return tlv(0x30, parts...) }
func octets(b []byte) []byte                        { return tlv(0x04, b) }
func integer(content []byte) []byte                 { return tlv(0x02, content) }
func explicit(number uint8, parts ...[]byte) []byte { return tlv(0xa0|number, parts...) }

var (
	null      = []byte{0x05, 0x00}
	boolTrue  = []byte{0x01, 0x01, 0xff}
	boolFalse = []byte{0x01, 0x01, 0x00}
)

func oid(arcs ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err)
	}
	return der
}

func pkixOCSP(last int) []byte { return oid(1, 3, 6, 1, 5, 5, 7, 48, 1, last) }

var hashOIDs = map[crypto.Hash][]byte{
	crypto.SHA1:   oid(1, 3, 14, 3, 2, 26),
	crypto.SHA256: oid(2, 16, 840, 1, 101, 3, 4, 2, 1),
	crypto.SHA384: oid(2, 16, 840, 1, 101, 3, 4, 2, 2),
	crypto.SHA512: oid(2, 16, 840, 1, 101, 3, 4, 2, 3),
}

// certID builds a CertID of a known hash whose parameters are NULL.
func certID(hash crypto.Hash, serial []byte) []byte {
	return seq(seq(hashOIDs[hash], null),
		octets(bytes.Repeat([]byte{0xaa}, hash.Size())), octets(bytes.Repeat([]byte{0xbb}, hash.Size())),
		integer(serial))
}

// plainID is the CertID of tests that look at something else.
var plainID = certID(crypto.SHA1, []byte{0x12, 0x34})

// request wraps the fields of a TBSRequest.
func request(tbs ...[]byte) []byte { return seq(seq(tbs...)) }

// requestFor asks for the given CertIDs and nothing else.
func requestFor(ids ...[]byte) []byte {
	var list [][]byte
	for _, id := range ids {
		list = append(list, seq(id))
	}
	return request(seq(list...))
}

// withExtensions asks for plainID with requestExtensions.
func withExtensions(exts ...[]byte) []byte {
	return request(seq(seq(plainID)), explicit(2, seq(exts...)))
}

// extension builds one Extension that is not critical.
func extension(id, value []byte) []byte { return seq(id, octets(value)) }

// nonceExtension builds a nonce as RFC 9654 wants it.
func nonceExtension(nonce []byte) []byte { return extension(pkixOCSP(2), octets(nonce)) }

// pki is a CA, one of its certificates, and a delegated responder, all P-256,
// and an RSA-2048 and a P-384 responder beside it.
type pki struct {
	ca, leaf *x509.Certificate
	signers  map[string]signer
}

type signer struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// testPKI is made once: an RSA key takes long.
var testPKI = sync.OnceValue(func() pki {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	p := pki{signers: map[string]signer{}}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	issue := func(template *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		parent := p.ca
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, caKey)
		must(err)
		cert, err := x509.ParseCertificate(der)
		must(err)
		return cert
	}
	p.ca = issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, caKey.Public())
	serial := new(big.Int).SetBytes([]byte{0x8f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	p.leaf = issue(&x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "leaf"}}, caKey.Public())

	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	for name, key := range map[string]crypto.Signer{"P-256": p256, "P-384": p384, "RSA-2048": rsa2048} {
		p.signers[name] = signer{key, issue(&x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "responder " + name},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		}, key.Public())}
	}
	return p
})

// keyHash is the ResponderID of a certificate: SHA-1 of the BIT STRING content.
func keyHash(t testing.TB, cert *x509.Certificate) [20]byte {
	t.Helper()
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &spki); err != nil {
		t.Fatal(err)
	}
	return sha1.Sum(spki.Key.RightAlign())
}

// sign makes the whole answer as the responder will: marshal, hash, sign, wrap.
func sign(t testing.TB, s signer, data wire.ResponseData) []byte {
	t.Helper()
	data.ResponderKeyHash = keyHash(t, s.cert)
	alg, hash, err := wire.SignatureAlgorithm(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tbs := data.Marshal()
	h := hash.New()
	h.Write(tbs)
	signature, err := s.key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		t.Fatal(err)
	}
	return wire.MarshalBasic(tbs, alg, signature, s.cert.Raw)
}

func mustParse(t testing.TB, der []byte) wire.Request {
	t.Helper()
	req, err := wire.ParseRequest(der)
	if err != nil {
		t.Fatalf("parsing %x: %v", der, err)
	}
	return req
}
