package ingest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	stdasn1 "encoding/asn1"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// rawEntry is an entry of a CRL as some CA wrote it: crypto/x509 makes no odd ones.
type rawEntry struct {
	serial []byte // content octets, as they are
	at     string // GeneralizedTime
	reason int64  // 0: none
}

// rawCRL is the DER of a CRL made an hour before now, of any entries and extensions.
func (a authority) rawCRL(tb testing.TB, number int64, entries []rawEntry, extensions ...pkix.Extension) []byte {
	tb.Helper()
	template, err := x509.ParseRevocationList(a.crl(tb, number, nil, extensions...))
	if err != nil {
		tb.Fatal(err)
	}
	algorithm, err := stdasn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: stdasn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}})
	if err != nil {
		tb.Fatal(err)
	}
	addTime := func(b *cryptobyte.Builder, text string) {
		b.AddASN1(asn1.GeneralizedTime, func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddBytes(algorithm)
		b.AddBytes(a.cert.RawSubject)
		addTime(b, stampOf(template.ThisUpdate))
		addTime(b, stampOf(template.NextUpdate))
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, e := range entries {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(e.serial) })
					addTime(b, e.at)
					if e.reason != 0 {
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
								b.AddASN1ObjectIdentifier(stdasn1.ObjectIdentifier{2, 5, 29, 21})
								b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1Enum(e.reason) })
							})
						})
					}
				})
			}
		})
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range template.Extensions {
					der, err := stdasn1.Marshal(e)
					if err != nil {
						tb.Fatal(err)
					}
					b.AddBytes(der)
				}
			})
		})
	})
	tbs, err := b.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(tbs)
	signature, err := a.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		tb.Fatal(err)
	}
	b = cryptobyte.Builder{}
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic()
}

// stampOf is a GeneralizedTime.
func stampOf(at time.Time) string { return at.UTC().Format("20060102150405Z") }
