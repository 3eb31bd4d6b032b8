package wire_test

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/crypto/ocsp"

	"ocspfleet/signer/wire"
)

// refused checks that each request is malformed and leaves nothing behind.
func refused(t *testing.T, cases map[string][]byte) {
	t.Helper()
	for name, der := range cases {
		t.Run(name, func(t *testing.T) {
			req, err := wire.ParseRequest(der)
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("got error %v, want ErrMalformed, for %x", err, der)
			}
			if len(req.CertIDs) != 0 || req.Nonce != nil || len(req.PreferredSigAlgs) != 0 {
				t.Errorf("got %+v beside the error", req)
			}
		})
	}
}

// accepted checks that each request asks for plainID alone.
func accepted(t *testing.T, cases map[string][]byte) {
	t.Helper()
	for name, der := range cases {
		t.Run(name, func(t *testing.T) {
			req := mustParse(t, der)
			if len(req.CertIDs) != 1 || !bytes.Equal(req.CertIDs[0].Raw, plainID) {
				t.Errorf("got %+v, want plainID", req)
			}
		})
	}
}

func TestRFC9919_3_1_1_FourHashesAndParameters(t *testing.T) {
	for hash, id := range hashOIDs {
		for params, alg := range map[string][]byte{"NULL": seq(id, null), "absent": seq(id)} {
			t.Run(fmt.Sprint(hash, " ", params), func(t *testing.T) {
				name, key := bytes.Repeat([]byte{1}, hash.Size()), bytes.Repeat([]byte{2}, hash.Size())
				raw := seq(alg, octets(name), octets(key), integer([]byte{0x00, 0x80}))
				want := wire.CertID{Raw: raw, Hash: hash, NameHash: name, KeyHash: key, Serial: []byte{0x00, 0x80}}
				if diff := cmp.Diff([]wire.CertID{want}, mustParse(t, requestFor(raw)).CertIDs); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// What names no issuer is for the signer to refuse, as unauthorized.
func TestRFC6960_4_1_1_ForeignCertIDIsParsed(t *testing.T) {
	sha1ID := hashOIDs[crypto.SHA1]
	hash := bytes.Repeat([]byte{1}, 20)
	cases := map[string]struct {
		alg, name, key []byte
		hash           crypto.Hash
	}{
		"unknown hash":             {seq(oid(1, 2, 840, 113549, 2, 5), null), hash[:16], hash[:16], 0},
		"SHA-1 with odd parameter": {seq(sha1ID, octets([]byte("x"))), hash, hash, 0},
		"short hashes":             {seq(sha1ID, null), hash[:19], hash[:1], crypto.SHA1},
		"empty hashes":             {seq(sha1ID, null), nil, nil, crypto.SHA1},
		"long hashes":              {seq(sha1ID, null), append(hash, 1), append(hash, 1), crypto.SHA1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			raw := seq(c.alg, octets(c.name), octets(c.key), integer([]byte{1}))
			got := mustParse(t, requestFor(raw)).CertIDs[0]
			if got.Hash != c.hash || !bytes.Equal(got.NameHash, c.name) || !bytes.Equal(got.KeyHash, c.key) || !bytes.Equal(got.Raw, raw) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestX690_8_3_SerialIsTheContentOctets(t *testing.T) {
	for name, serial := range map[string][]byte{
		"zero": {0}, "one": {1}, "negative": {0xff}, "very negative": {0x80, 0}, "leading zero needed": {0, 0x80},
		"leading ff needed": {0xff, 0x7f}, "20 octets": bytes.Repeat([]byte{0x7f}, 20),
		"21 octets": bytes.Repeat([]byte{0x7f}, 21), "8000 octets": bytes.Repeat([]byte{0x55}, 8000),
	} {
		t.Run(name, func(t *testing.T) {
			got := mustParse(t, requestFor(certID(crypto.SHA256, serial))).CertIDs[0].Serial
			if !bytes.Equal(got, serial) {
				t.Errorf("got %x, want %x", got, serial)
			}
		})
	}
	refused(t, map[string][]byte{
		"empty":               requestFor(certID(crypto.SHA256, nil)),
		"leading zero":        requestFor(certID(crypto.SHA256, []byte{0, 0x7f})),
		"two zeros":           requestFor(certID(crypto.SHA256, []byte{0, 0})),
		"zeros before a high": requestFor(certID(crypto.SHA256, []byte{0, 0, 0x80})),
		"leading ff":          requestFor(certID(crypto.SHA256, []byte{0xff, 0x80})),
	})
}

func TestRFC6960_4_2_2_3_SeveralCertIDsInTheirOrder(t *testing.T) {
	var ids [][]byte
	for i := range wire.MaxCertIDs {
		ids = append(ids, certID([]crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}[i%4], []byte{byte(i)}))
	}
	got := mustParse(t, requestFor(ids...)).CertIDs
	if len(got) != wire.MaxCertIDs {
		t.Fatalf("got %d CertIDs, want %d", len(got), wire.MaxCertIDs)
	}
	for i := range got {
		if !bytes.Equal(got[i].Raw, ids[i]) || !bytes.Equal(got[i].Serial, []byte{byte(i)}) {
			t.Errorf("CertID %d is %x, want %x", i, got[i].Raw, ids[i])
		}
	}
	refused(t, map[string][]byte{
		"none":     requestFor(),
		"65":       requestFor(append(ids, plainID)...),
		"no list":  request(),
		"no field": seq(),
	})
}

// The bounds fit each other: 64 of the longest ordinary CertIDs with the longest
// nonce are within MaxRequestLen.
func TestLongestOrdinaryRequestFits(t *testing.T) {
	var list [][]byte
	for range wire.MaxCertIDs {
		list = append(list, seq(certID(crypto.SHA512, bytes.Repeat([]byte{0x11}, 20))))
	}
	der := request(seq(list...), explicit(2, seq(nonceExtension(make([]byte, wire.MaxNonceLen)))))
	if req := mustParse(t, der); len(req.CertIDs) != wire.MaxCertIDs || len(req.Nonce) != wire.MaxNonceLen {
		t.Errorf("got %d CertIDs and a nonce of %d octets", len(req.CertIDs), len(req.Nonce))
	}
}

func TestRequestOverMaxRequestLenIsMalformed(t *testing.T) {
	of := func(size int) []byte {
		fill := size - len(requestFor(certID(crypto.SHA1, bytes.Repeat([]byte{1}, 16000)))) + 16000
		der := requestFor(certID(crypto.SHA1, bytes.Repeat([]byte{1}, fill)))
		if len(der) != size {
			t.Fatalf("built %d octets, want %d", len(der), size)
		}
		return der
	}
	mustParse(t, of(wire.MaxRequestLen))
	refused(t, map[string][]byte{"one octet more": of(wire.MaxRequestLen + 1)})
}

func TestRFC6960_4_1_1_VersionIsV1(t *testing.T) {
	list := seq(seq(plainID))
	accepted(t, map[string][]byte{
		"default":  request(list),
		"explicit": request(explicit(0, integer([]byte{0})), list),
	})
	refused(t, map[string][]byte{
		"v2":            request(explicit(0, integer([]byte{1})), list),
		"negative":      request(explicit(0, integer([]byte{0xff})), list),
		"two octets":    request(explicit(0, integer([]byte{0, 0})), list),
		"empty":         request(explicit(0, integer(nil)), list),
		"empty tag":     request(explicit(0), list),
		"trailing data": request(explicit(0, integer([]byte{0}), null), list),
		"wrong type":    request(explicit(0, octets([]byte{0})), list),
	})
}

func TestRFC9919_3_1_2_RequestorNameAndSignatureAreIgnored(t *testing.T) {
	list := seq(seq(plainID))
	name := explicit(1, explicit(4, seq(tlv(0x31, seq(oid(2, 5, 4, 3), tlv(0x0c, []byte("me")))))))
	alg, bits := seq(oid(1, 2, 840, 113549, 1, 1, 11), null), tlv(0x03, []byte{0, 1, 2, 3})
	signed := func(signature ...[]byte) []byte { return seq(seq(name, list), explicit(0, signature...)) }
	accepted(t, map[string][]byte{
		"requestorName":         request(name, list),
		"requestorName, URI":    request(explicit(1, tlv(0x86, []byte("http://x"))), list),
		"version too":           request(explicit(0, integer([]byte{0})), name, list),
		"signature":             signed(seq(alg, bits)),
		"signature, no name":    seq(seq(list), explicit(0, seq(alg, bits))),
		"signature with certs":  signed(seq(alg, bits, explicit(0, seq(testPKI().ca.Raw, testPKI().leaf.Raw)))),
		"signature, empty list": signed(seq(alg, bits, explicit(0, seq()))),
	})
	refused(t, map[string][]byte{
		"empty requestorName":       request(explicit(1), list),
		"requestorName no name":     request(explicit(1, seq()), list),
		"two names":                 request(explicit(1, tlv(0x86, []byte("a")), tlv(0x86, []byte("b"))), list),
		"requestorName cut":         request(explicit(1, []byte{0x86, 5, 'a'}), list),
		"name after the list":       request(list, name),
		"empty signature":           signed(),
		"signature no SEQUENCE":     signed(bits),
		"two signatures":            signed(seq(alg, bits), seq(alg, bits)),
		"signature without alg":     signed(seq(bits)),
		"signature without bits":    signed(seq(alg)),
		"empty BIT STRING":          signed(seq(alg, tlv(0x03))),
		"8 unused bits":             signed(seq(alg, tlv(0x03, []byte{8, 1}))),
		"unused bits of nothing":    signed(seq(alg, tlv(0x03, []byte{1}))),
		"certs no SEQUENCE":         signed(seq(alg, bits, explicit(0, null))),
		"data after the certs":      signed(seq(alg, bits, explicit(0, seq(), null))),
		"data after the signature":  signed(seq(alg, bits, null)),
		"data after the last field": seq(seq(list), explicit(0, seq(alg, bits)), null),
	})
}

func TestX690_10_OnlyDER(t *testing.T) {
	list := seq(seq(plainID))
	good := request(list)
	alg, hash := seq(hashOIDs[crypto.SHA1], null), octets(make([]byte, 20))
	num := integer([]byte{1})
	long := func(tag byte, content []byte) []byte { // a length octet too many
		return append([]byte{tag, 0x81, byte(len(content))}, content...)
	}
	refused(t, map[string][]byte{
		"nothing":                   nil,
		"one octet":                 {0x30},
		"empty SEQUENCE":            {0x30, 0},
		"trailing octet":            append(bytes.Clone(good), 0),
		"two requests":              append(bytes.Clone(good), good...),
		"SET":                       tlv(0x31, seq(list)),
		"indefinite":                append(append([]byte{0x30, 0x80}, seq(list)...), 0, 0),
		"indefinite inside":         seq(append(append([]byte{0x30, 0x80}, list...), 0, 0)),
		"length octet too many":     long(0x30, good[2:]),
		"leading zero in length":    append([]byte{0x30, 0x82, 0, byte(len(good) - 2)}, good[2:]...),
		"length beyond the end":     {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1},
		"length of five octets":     {0x30, 0x85, 0, 0, 0, 0, 1, 1},
		"data after tbsRequest":     seq(seq(list), null),
		"data after the list":       request(list, null),
		"data after CertID":         request(seq(seq(plainID, null))),
		"data after serial":         requestFor(seq(alg, hash, hash, num, null)),
		"no serial":                 requestFor(seq(alg, hash, hash)),
		"no key hash":               requestFor(seq(alg, hash, num)),
		"constructed OCTET STRING":  requestFor(seq(alg, tlv(0x24, octets(make([]byte, 20))), hash, num)),
		"data after NULL":           requestFor(seq(seq(hashOIDs[crypto.SHA1], null, null), hash, hash, num)),
		"NULL with content":         requestFor(seq(seq(hashOIDs[crypto.SHA1], tlv(0x05, []byte{0})), hash, hash, num)),
		"no algorithm":              requestFor(seq(seq(), hash, hash, num)),
		"algorithm no OID":          requestFor(seq(seq(null), hash, hash, num)),
		"empty OID":                 requestFor(seq(seq(tlv(0x06)), hash, hash, num)),
		"OID cut":                   requestFor(seq(seq(tlv(0x06, []byte{0x2b, 0x81})), hash, hash, num)),
		"OID with padding":          requestFor(seq(seq(tlv(0x06, []byte{0x2b, 0x80, 1})), hash, hash, num)),
		"high tag number":           requestFor(seq(seq(hashOIDs[crypto.SHA1], []byte{0x1f, 0x81, 0x01, 0}), hash, hash, num)),
		"serial with tag UNIVERSAL": requestFor(seq(alg, hash, hash, tlv(0x0a, []byte{1}))),
		"long serial length":        requestFor(seq(alg, hash, hash, long(0x02, []byte{1}))),
		"HTML":                      []byte("<html><body>404</body></html>"),
	})
}

func TestTruncatedRequestIsMalformed(t *testing.T) {
	der := request(seq(seq(plainID), seq(plainID, explicit(0, seq(extension(oid(1, 2, 3), nil))))),
		explicit(2, seq(nonceExtension([]byte("0123456789abcdef")))))
	mustParse(t, der)
	for n := range der {
		if _, err := wire.ParseRequest(der[:n]); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("the first %d of %d octets: got error %v", n, len(der), err)
		}
	}
}

// A Request used again must not remember anything.
func TestParseRequestIntoForgets(t *testing.T) {
	full := request(seq(seq(plainID), seq(certID(crypto.SHA512, []byte{9}))),
		explicit(2, seq(nonceExtension([]byte("nonce")), extension(pkixOCSP(8), seq(seq(seq(oid(1, 2, 3))))))))
	for name, next := range map[string][]byte{
		"a plain request": requestFor(plainID), "an unknown hash": requestFor(seq(seq(oid(1, 2, 3)), octets(nil), octets(nil), integer([]byte{1}))), "garbage": {1},
		"a late error": append(bytes.Clone(full[:len(full)-1]), 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			req := mustParse(t, full)
			err := wire.ParseRequestInto(next, &req)
			fresh, freshErr := wire.ParseRequest(next)
			if (err == nil) != (freshErr == nil) {
				t.Fatalf("got error %v, a fresh Request got %v", err, freshErr)
			}
			if diff := cmp.Diff(fresh.CertIDs, req.CertIDs, emptyIsNil); diff != "" {
				t.Error(diff)
			}
			if req.Nonce != nil && fresh.Nonce == nil || len(req.PreferredSigAlgs) != len(fresh.PreferredSigAlgs) {
				t.Errorf("got %+v, want %+v", req, fresh)
			}
		})
	}
}

func TestParseRequestIntoAllocatesNothing(t *testing.T) {
	der := withExtensions(nonceExtension(make([]byte, 32)))
	var req wire.Request
	if err := wire.ParseRequestInto(der, &req); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = wire.ParseRequestInto(der, &req) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

// The foreign client: x/crypto/ocsp asks, we read.
func TestRequestOfXCrypto(t *testing.T) {
	p := testPKI()
	for hash := range hashOIDs {
		der, err := ocsp.CreateRequest(p.leaf, p.ca, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		want, err := ocsp.ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		got := mustParse(t, der).CertIDs[0]
		if got.Hash != hash || !bytes.Equal(got.NameHash, want.IssuerNameHash) || !bytes.Equal(got.KeyHash, want.IssuerKeyHash) {
			t.Errorf("%v: got %+v, want %+v", hash, got, want)
		}
		if serial := append([]byte{0}, want.SerialNumber.Bytes()...); !bytes.Equal(got.Serial, serial) {
			t.Errorf("%v: got serial %x, want %x", hash, got.Serial, serial)
		}
	}
}
