package signer

import (
	"context"
	"crypto"
	"math/big"
	"testing"

	"ocspfleet/integration/testkit/signertest"
)

func BenchmarkAnswerCached(b *testing.B) {
	r := newRig(b)
	request := signertest.Request(b, r.CA, crypto.SHA256, signertest.GoodSerial)
	r.Answer(b.Context(), request)
	b.ReportAllocs()
	for b.Loop() {
		r.Answer(context.Background(), request)
	}
}

// Never issued, each asked once, with no time for the key: what a flood costs
// beside the signature itself.
func BenchmarkAnswerUnknownSigned(b *testing.B) {
	r := newRig(b)
	requests := make([][]byte, 4096)
	for i := range requests {
		requests[i] = r.Request(big.NewInt(int64(i) + 1<<40))
	}
	r.cache.limit = 0
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Answer(context.Background(), requests[n%len(requests)])
		n++
	}
}
