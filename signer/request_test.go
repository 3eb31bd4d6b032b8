package signer

import (
	"context"
	"math/big"
	"testing"

	"golang.org/x/crypto/ocsp"
)

// ask asks for one serial with a SHA-1 CertID, as most clients do.
func (r *rig) ask(serial *big.Int) Answer {
	return r.Answer(context.Background(), r.Request(serial))
}

// judge lets x/crypto/ocsp verify a signed answer.
func (r *rig) judge(a Answer) *ocsp.Response {
	r.TB.Helper()
	resp, err := ocsp.ParseResponse(a.Body, r.CA.Cert)
	if err != nil {
		r.TB.Fatalf("judging an answer of class %s: %v", a.Class, err)
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
