package signer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
	"ocspfleet/signer/wire"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of the wishes, as content octets.
const (
	wishECDSA256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	wishECDSA384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	wishRSA256   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	wishRSA1     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05" // sha1WithRSAEncryption
	wishEd25519  = "\x2b\x65\x70"
	ecPublicKey  = "\x2a\x86\x48\xce\x3d\x02\x01"
	secp256r1    = "\x2a\x86\x48\xce\x3d\x03\x01\x07"
	secp384r1    = "\x2b\x81\x04\x00\x22"
)

// wish is one PreferredSignatureAlgorithm; a key of an elliptic curve when curve is set.
type wish struct{ algorithm, curve string }

// preferring is the request with the extension of RFC 6960 section 4.4.7.
func preferring(tb testing.TB, request []byte, wishes ...wish) []byte {
	tb.Helper()
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, w := range wishes {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addAlgorithm(b, w.algorithm, "")
				if w.curve != "" {
					addAlgorithm(b, ecPublicKey, w.curve)
				}
			})
		}
	})
	value := b.BytesOrPanic()
	var whole cryptobyte.Builder
	whole.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(signertest.CertID(tb, request)) })
			})
			b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes([]byte{6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 8})
						b.AddASN1OctetString(value)
					})
				})
			})
		})
	})
	return whole.BytesOrPanic()
}

func addAlgorithm(b *cryptobyte.Builder, oid, parameter string) {
	add := func(b *cryptobyte.Builder, oid string) {
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
	}
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		add(b, oid)
		if parameter != "" {
			add(b, parameter)
		}
	})
}

// threeKeys is a rig whose token holds a P-256, a P-384 and an RSA key with a
// certificate each; the P-256 one is the newest.
func threeKeys(t *testing.T, ofRSA bool) *rig {
	t.Helper()
	r := newRig(t)
	if ofRSA {
		r = newRigWith(t, signertest.RSAKey(), signertest.NewKey(t))
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r.Keys.Set(func() { r.Keys.Keys = append(r.Keys.Keys, p384, signertest.RSAKey()) })
	r.AddCert(r.CA.Delegate(t, 0x7010, p384.Public(), signertest.Noon.Add(-2*day), signertest.Noon.Add(5*day)))
	r.AddCert(r.CA.Delegate(t, 0x7011, signertest.RSAKey().Public(), signertest.Noon.Add(-3*day), signertest.Noon.Add(4*day)))
	r.refreshed()
	return r
}

// RFC 6960 section 4.4.7.2: the client's first wish that we have a key for; else
// the kind of the CA's own key; never a weak algorithm because a client asked
// (section 5.1.2).
func TestRFC6960_4_4_7_2_PreferredAlgorithmSigns(t *testing.T) {
	for _, ofRSA := range []bool{false, true} {
		r := threeKeys(t, ofRSA)
		usual := x509.ECDSAWithSHA256
		if ofRSA {
			usual = x509.SHA256WithRSA
		}
		for name, c := range map[string]struct {
			wishes []wish
			want   x509.SignatureAlgorithm
		}{
			"none":                  {nil, usual},
			"ECDSA":                 {[]wish{{wishECDSA256, ""}}, x509.ECDSAWithSHA256},
			"RSA":                   {[]wish{{wishRSA256, ""}}, x509.SHA256WithRSA},
			"P-384":                 {[]wish{{wishECDSA384, ""}}, x509.ECDSAWithSHA384},
			"the first we have":     {[]wish{{wishEd25519, ""}, {wishRSA256, ""}, {wishECDSA256, ""}}, x509.SHA256WithRSA},
			"in the client's order": {[]wish{{wishECDSA256, ""}, {wishRSA256, ""}}, x509.ECDSAWithSHA256},
			"none that we have":     {[]wish{{wishEd25519, ""}}, usual},
			"SHA-1":                 {[]wish{{wishRSA1, ""}}, usual},
			"SHA-1 before RSA":      {[]wish{{wishRSA1, ""}, {wishECDSA256, ""}}, x509.ECDSAWithSHA256},
			"with its curve":        {[]wish{{wishECDSA256, secp256r1}}, x509.ECDSAWithSHA256},
			"with another curve":    {[]wish{{wishECDSA256, secp384r1}, {wishECDSA384, secp384r1}}, x509.ECDSAWithSHA384},
		} {
			request := r.Request(signertest.GoodSerial)
			if c.wishes != nil {
				request = preferring(t, request, c.wishes...)
			}
			for range 2 { // the second from the cache
				a := r.Answer(t.Context(), request)
				wantClass(t, a, Good)
				if got := r.judge(a).SignatureAlgorithm; got != c.want {
					t.Errorf("RSA CA %v, %s: signed with %s, want %s", ofRSA, name, got, c.want)
				}
			}
		}
		if signs := r.Keys.Signs.Load(); signs != 3+3 {
			t.Errorf("%d signatures, want 3 self-tests and one per algorithm", signs)
		}
		if reasons := r.Ready(t.Context()); len(reasons) > 0 {
			t.Errorf("not ready: %q", reasons)
		}
	}
}

// A key that stops leaves the others at work, for those who prefer it too; the
// newest of several certificates for one algorithm signs.
func TestRFC6960_4_4_7_2_AnotherKeyTakesOver(t *testing.T) {
	r := threeKeys(t, true)
	ask := func() x509.SignatureAlgorithm {
		a := r.Answer(t.Context(), preferring(t, r.Request(signertest.GoodSerial), wish{wishRSA256, ""}))
		wantClass(t, a, Good)
		return r.judge(a).SignatureAlgorithm
	}
	if got := ask(); got != x509.SHA256WithRSA {
		t.Fatalf("signed with %s", got)
	}
	r.Copy.Change(signertest.Noon, 1, db.Serial{0x70, 0x11}, r.RevokedRow(signertest.Noon, db.ReasonSuperseded))
	first := r.Answer(t.Context(), preferring(t, r.Request(signertest.GoodSerial), wish{wishRSA256, ""}))
	wantClass(t, first, Unauthorized) // it saw its own revocation just now
	if got := ask(); got == x509.SHA256WithRSA {
		t.Error("the revoked identity signs")
	}
	r.refreshed()
	if got := ask(); got == x509.SHA256WithRSA {
		t.Error("the revoked identity signs after a refresh")
	}
	if len(r.site.Load().served[0].identities) != 2 {
		t.Errorf("%d identities", len(r.site.Load().served[0].identities))
	}
	r.Copy.Edit(func() { r.Copy.Certs = slices.Clone(r.Copy.Certs[:1]) })
	r.refreshed()
	a := r.Answer(t.Context(), preferring(t, r.Request(signertest.GoodSerial), wish{wishECDSA384, ""}))
	if got := r.judge(a).SignatureAlgorithm; got != x509.ECDSAWithSHA256 {
		t.Errorf("signed with %s", got)
	}
}

// The end and the self-test of several signers are one figure per issuer.
func TestVitalsOfSeveralSigners(t *testing.T) {
	r := threeKeys(t, false)
	s := r.site.Load().served[0]
	if end, ok := s.vitals(); !ok || end != float64(signertest.Noon.Add(6*day).Unix()) {
		t.Errorf("end %v, tested %v", time.Unix(int64(end), 0).UTC(), ok)
	}
	end, begin := s.identities[0].end, s.identities[0].cert.NotBefore
	for _, id := range s.identities {
		if id.end.Before(end) {
			end, begin = id.end, id.cert.NotBefore
		}
	}
	if left := s.lifeLeft(begin.Add(end.Sub(begin) * 3 / 4)); left < 0.249 || left > 0.251 {
		t.Errorf("%v of the life of the first to end is left, want a quarter", left)
	}
	if left := s.lifeLeft(end.Add(time.Second)); left != 0 {
		t.Errorf("%v is left after the end", left)
	}
	s.identities[1].test.Store(&selfTest{at: signertest.Noon, err: errBusy})
	if _, ok := s.vitals(); ok {
		t.Error("a failed self-test is hidden by those of others")
	}
	for _, id := range s.identities {
		id.stopped.Store(true)
	}
	if left := s.lifeLeft(signertest.Noon); left != 0 {
		t.Errorf("nobody signs, and yet %v of a life is left", left)
	}
	if end, ok := s.vitals(); ok || end != 0 {
		t.Errorf("nobody signs, and yet end %v, tested %v", end, ok)
	}
}

// RFC 6960 section 4.1.2: the CertID is echoed byte for byte, here with the
// extension beside it, and the answer has no extension for it.
func TestRFC6960_4_4_7_NoExtensionInTheAnswer(t *testing.T) {
	r := newRig(t)
	plain := r.ask(signertest.GoodSerial)
	wished := r.Answer(t.Context(), preferring(t, r.Request(signertest.GoodSerial), wish{wishECDSA256, ""}))
	if !bytes.Equal(plain.Body, wished.Body) {
		t.Error("a wish for what signs anyway makes another answer")
	}
	if bytes.Contains(wished.Body, []byte{0x30, 1, 8}) && !bytes.Contains(plain.Body, []byte{0x30, 1, 8}) {
		t.Error("the extension came back")
	}
	many := make([]wish, 200)
	for i := range many {
		many[i] = wish{wishEd25519, ""}
	}
	if a := r.Answer(t.Context(), preferring(t, r.Request(signertest.GoodSerial), many...)); a.Class != Good {
		t.Errorf("200 wishes: %s", a.Class)
	}
	if wire.MaxPreferredSigAlgs >= 200 {
		t.Error("the bound on wishes is gone")
	}
}
