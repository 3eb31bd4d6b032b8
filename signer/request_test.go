package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// ask asks for one serial with a SHA-1 CertID, as most clients do.
func (r *rig) ask(serial *big.Int) Answer {
	return r.Answer(context.Background(), r.request(serial))
}

func (r *rig) request(serial *big.Int) []byte {
	return requestFor(r.tb, r.ca, crypto.SHA1, serial)
}

func requestFor(tb testing.TB, ca *testCA, hash crypto.Hash, serial *big.Int) []byte {
	tb.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, ca.cert, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// certIDOf cuts the CertID out of a plain request.
func certIDOf(tb testing.TB, request []byte) []byte {
	tb.Helper()
	in := cryptobyte.String(request)
	var outer, tbs, list, single, id cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) || !tbs.ReadASN1(&list, asn1.SEQUENCE) ||
		!list.ReadASN1(&single, asn1.SEQUENCE) || !single.ReadASN1Element(&id, asn1.SEQUENCE) {
		tb.Fatal("cutting the CertID: malformed request")
	}
	return id
}

// join makes one request of many, with a nonce when it is not nil.
func join(tb testing.TB, nonce []byte, requests ...[]byte) []byte {
	tb.Helper()
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, r := range requests {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(certIDOf(tb, r)) })
				}
			})
			if nonce == nil {
				return
			}
			b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes([]byte{6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2})
						b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

// judge lets x/crypto/ocsp verify a signed answer.
func (r *rig) judge(a Answer) *ocsp.Response {
	r.tb.Helper()
	resp, err := ocsp.ParseResponse(a.Body, r.ca.cert)
	if err != nil {
		r.tb.Fatalf("judging an answer of class %s: %v", a.Class, err)
	}
	return resp
}

func wantClass(tb testing.TB, a Answer, want Class) {
	tb.Helper()
	if a.Class != want {
		tb.Fatalf("class %s, want %s", a.Class, want)
	}
	if len(a.Body) < 5 || a.Class.Signed() == (len(a.Body) == 5) {
		tb.Fatalf("class %s with a body of %d octets", a.Class, len(a.Body))
	}
}
