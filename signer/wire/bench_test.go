package wire_test

import (
	"crypto"
	"testing"

	"ocspfleet/signer/wire"
)

func BenchmarkParseRequest(b *testing.B) {
	serial := make([]byte, 16)
	serial[0] = 0x5a
	var many [][]byte
	for range wire.MaxCertIDs {
		many = append(many, certID(crypto.SHA256, serial))
	}
	for name, der := range map[string][]byte{
		"plain": requestFor(certID(crypto.SHA1, serial)), "64": requestFor(many...),
		"nonce": request(seq(seq(certID(crypto.SHA256, serial))), explicit(2, seq(nonceExtension(make([]byte, 32))))),
	} {
		b.Run(name, func(b *testing.B) {
			var req wire.Request
			b.ReportAllocs()
			for b.Loop() {
				if err := wire.ParseRequestInto(der, &req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMarshal(b *testing.B) {
	for name, status := range map[string]wire.CertStatus{"good": wire.StatusGood, "revoked": wire.StatusRevoked} {
		b.Run(name, func(b *testing.B) {
			data := wire.ResponseData{ProducedAt: produced, Responses: []wire.SingleResponse{single(status)}, Nonce: make([]byte, 32)}
			b.ReportAllocs()
			for b.Loop() {
				sink = data.Marshal()
			}
		})
	}
}

func BenchmarkMarshalBasic(b *testing.B) {
	tbs := wire.ResponseData{ProducedAt: produced, Responses: []wire.SingleResponse{single(wire.StatusGood)}}.Marshal()
	alg, signature, cert := seq(oid(1, 2, 840, 10045, 4, 3, 2)), make([]byte, 72), make([]byte, 600)
	b.ReportAllocs()
	for b.Loop() {
		sink = wire.MarshalBasic(tbs, alg, signature, cert)
	}
}
