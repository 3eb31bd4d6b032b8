package wire_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ocspfleet/signer/wire"
)

var emptyIsNil = cmpopts.EquateEmpty()

func TestRFC9654_2_1_NonceLengths(t *testing.T) {
	for _, n := range []int{1, 8, 15, 16, 31, 32, 33, 64, 127, 128} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			nonce := bytes.Repeat([]byte{0x04}, n) // 04 is the tag of OCTET STRING: the content must not be read twice
			if got := mustParse(t, withExtensions(nonceExtension(nonce))).Nonce; !bytes.Equal(got, nonce) {
				t.Errorf("got %x", got)
			}
		})
	}
	refused(t, map[string][]byte{
		"0":     withExtensions(nonceExtension(nil)),
		"129":   withExtensions(nonceExtension(make([]byte, 129))),
		"256":   withExtensions(nonceExtension(make([]byte, 256))),
		"15000": withExtensions(nonceExtension(make([]byte, 15000))),
	})
}

// The nonce is known, so criticality changes nothing.
func TestRFC6960_4_1_2_CriticalNonceIsTaken(t *testing.T) {
	der := withExtensions(seq(pkixOCSP(2), boolTrue, octets(octets([]byte("nonce")))))
	if got := mustParse(t, der).Nonce; string(got) != "nonce" {
		t.Errorf("got %q", got)
	}
}

func TestRFC9654_OldClientsNonceIsIgnored(t *testing.T) {
	raw := func(value ...byte) []byte { return withExtensions(extension(pkixOCSP(2), value)) }
	single := func(ext []byte) []byte { return request(seq(seq(plainID, explicit(0, seq(ext))))) }
	cases := map[string][]byte{
		"raw octets":                       raw([]byte("0123456789abcdef")...),
		"raw, empty":                       raw(),
		"raw, 200 octets":                  raw(make([]byte, 200)...),
		"raw, critical":                    withExtensions(seq(pkixOCSP(2), boolTrue, octets([]byte("raw")))),
		"raw, starts like an OCTET STRING": raw(0x04, 0x02, 1, 2, 3),
		"raw, OCTET STRING cut":            raw(0x04, 0x10, 1, 2, 3),
		"INTEGER":                          raw(0x02, 0x01, 0x05),
		"singleRequestExtensions":          single(nonceExtension([]byte("nonce"))),
		"single, critical":                 single(seq(pkixOCSP(2), boolTrue, octets(octets([]byte("nonce"))))),
		"single, 129 octets":               single(nonceExtension(make([]byte, 129))),
	}
	accepted(t, cases)
	for name, der := range cases {
		if got := mustParse(t, der).Nonce; got != nil {
			t.Errorf("%s: got nonce %x, want none", name, got)
		}
	}
}

func TestRFC6960_4_1_2_UnknownExtensions(t *testing.T) {
	list := seq(seq(plainID))
	unknown := oid(1, 3, 6, 1, 4, 1, 99999, 1)
	single := func(exts ...[]byte) []byte { return request(seq(seq(plainID, explicit(0, seq(exts...))))) }
	critical := seq(unknown, boolTrue, octets(nil))
	accepted(t, map[string][]byte{
		"not critical":           withExtensions(extension(unknown, []byte("anything"))),
		"critical FALSE":         withExtensions(seq(unknown, boolFalse, octets(nil))),
		"single, not critical":   single(extension(unknown, nil)),
		"service locator":        single(extension(pkixOCSP(7), seq())),
		"one in both lists":      request(seq(seq(plainID, explicit(0, seq(extension(unknown, nil))))), explicit(2, seq(extension(unknown, nil)))),
		"acceptable responses":   withExtensions(extension(pkixOCSP(4), seq(pkixOCSP(1)))),
		"they are critical":      withExtensions(seq(pkixOCSP(4), boolTrue, octets(seq(pkixOCSP(1))))),
		"preferred algs, single": single(extension(pkixOCSP(8), []byte("ignored here"))),
	})
	refused(t, map[string][]byte{
		"critical":                    withExtensions(critical),
		"critical after a nonce":      withExtensions(nonceExtension([]byte{1}), critical),
		"single, critical":            single(critical),
		"service locator, critical":   single(seq(pkixOCSP(7), boolTrue, octets(seq()))),
		"preferred algs, single, cr.": single(seq(pkixOCSP(8), boolTrue, octets(seq()))),
		"empty tag":                   request(list, explicit(2)),
		"no SEQUENCE":                 request(list, explicit(2, null)),
		"data after the SEQUENCE":     request(list, explicit(2, seq(extension(unknown, nil)), null)),
		"no OID":                      withExtensions(seq(octets(nil))),
		"bad OID":                     withExtensions(seq(tlv(0x06, []byte{0x80}), octets(nil))),
		"no value":                    withExtensions(seq(unknown)),
		"value no OCTET STRING":       withExtensions(seq(unknown, null)),
		"BOOLEAN neither 00 nor ff":   withExtensions(seq(unknown, []byte{1, 1, 1}, octets(nil))),
		"BOOLEAN of two octets":       withExtensions(seq(unknown, []byte{1, 2, 0, 0}, octets(nil))),
		"data after the value":        withExtensions(seq(unknown, octets(nil), null)),
		"requestExtensions tagged 1":  request(list, explicit(1, seq(extension(unknown, nil)))),
	})
}

// Bouncy Castle's OCSPReqBuilder writes the list also where nobody put anything in it.
// RFC 5280 section 4.1 wants at least one extension: what is empty says what is absent.
func TestAnEmptyListOfExtensionsIsReadAsAbsent(t *testing.T) {
	for name, der := range map[string][]byte{
		"requestExtensions":       withExtensions(),
		"singleRequestExtensions": request(seq(seq(plainID, explicit(0, seq())))),
		"both":                    request(seq(seq(plainID, explicit(0, seq()))), explicit(2, seq())),
		"one of two Requests":     request(seq(seq(plainID), seq(plainID, explicit(0, seq())))),
	} {
		req, err := wire.ParseRequest(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if req.Nonce != nil || len(req.PreferredSigAlgs) != 0 {
			t.Errorf("%s: read %+v", name, req)
		}
	}
}

func TestRFC5280_4_2_ExtensionStandsOnce(t *testing.T) {
	a, b := extension(oid(1, 2, 3), nil), extension(oid(1, 2, 4), nil)
	nonce := nonceExtension([]byte("nonce"))
	refused(t, map[string][]byte{
		"two nonces":  withExtensions(nonce, nonce),
		"two unknown": withExtensions(a, b, a),
		"single":      request(seq(seq(plainID, explicit(0, seq(a, a))))),
	})
	var many [][]byte
	for i := range wire.MaxExtensions {
		many = append(many, extension(oid(1, 2, i), nil))
	}
	accepted(t, map[string][]byte{"32": withExtensions(many...)})
	refused(t, map[string][]byte{"33": withExtensions(append(many, nonce)...)})
}

func TestRFC6960_4_4_7_PreferredSignatureAlgorithmsInOrder(t *testing.T) {
	p256 := seq(oid(1, 2, 840, 10045, 4, 3, 2))
	rsa := seq(oid(1, 2, 840, 113549, 1, 1, 11), null)
	prefs := func(value []byte) []byte { return withExtensions(extension(pkixOCSP(8), value)) }
	rsaKey := seq(oid(1, 2, 840, 113549, 1, 1, 1), null)
	got := mustParse(t, prefs(seq(seq(p256), seq(rsa, rsaKey)))).PreferredSigAlgs
	if diff := cmp.Diff([]wire.PreferredSigAlg{{Signature: p256}, {Signature: rsa, PublicKey: rsaKey}}, got); diff != "" {
		t.Error(diff)
	}
	many := make([][]byte, 500)
	for i := range many {
		many[i] = seq(seq(oid(1, 2, i)))
	}
	if got := mustParse(t, prefs(seq(many...))).PreferredSigAlgs; len(got) != wire.MaxPreferredSigAlgs {
		t.Errorf("kept %d algorithms of 500", len(got))
	}
	refused(t, map[string][]byte{
		"no SEQUENCE":    prefs(null),
		"trailing":       prefs(append(seq(seq(p256)), 0)),
		"bare algorithm": prefs(seq(p256)),
		"third member":   prefs(seq(seq(p256, rsaKey, null))),
		"empty key":      prefs(seq(seq(p256, seq()))),
		"bad after 16":   prefs(seq(append(many, null)...)),
	})
}

// RFC 6960 section 4.4.7.1: pubKeyAlgIdentifier names the kind of key, and where
// that has parameters, such as a curve, it may name them.
func TestRFC6960_4_4_7_1_PreferredKey(t *testing.T) {
	ecKey, p256, p384 := oid(1, 2, 840, 10045, 2, 1), oid(1, 2, 840, 10045, 3, 1, 7), oid(1, 3, 132, 0, 34)
	rsa := oid(1, 2, 840, 113549, 1, 1, 1)
	for name, c := range map[string]struct {
		wish, have []byte
		want       bool
	}{
		"none named":      {nil, seq(ecKey, p256), true},
		"same curve":      {seq(ecKey, p256), seq(ecKey, p256), true},
		"another curve":   {seq(ecKey, p384), seq(ecKey, p256), false},
		"any curve":       {seq(ecKey), seq(ecKey, p256), true},
		"any curve, NULL": {seq(ecKey, null), seq(ecKey, p256), true},
		"another kind":    {seq(rsa, null), seq(ecKey, p256), false},
		"RSA":             {seq(rsa), seq(rsa, null), true},
	} {
		if got := (wire.PreferredSigAlg{PublicKey: c.wish}).FitsKey(c.have); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestSameAlgorithm(t *testing.T) {
	id, other := oid(1, 2, 840, 113549, 1, 1, 11), oid(1, 2, 840, 113549, 1, 1, 12)
	for name, c := range map[string]struct {
		a, b []byte
		want bool
	}{
		"equal":            {seq(id, null), seq(id, null), true},
		"NULL and absent":  {seq(id, null), seq(id), true},
		"equal parameters": {seq(id, seq(id)), seq(id, seq(id)), true},
		"other parameters": {seq(id, seq(id)), seq(id, seq()), false},
		"some and none":    {seq(id, seq(id)), seq(id), false},
		"other identifier": {seq(id), seq(other), false},
		"garbage":          {[]byte("x"), seq(id), false},
		"trailing":         {append(seq(id), 0), seq(id), false},
		"empty":            {nil, nil, false},
	} {
		if got := wire.SameAlgorithm(c.a, c.b); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
		if got := wire.SameAlgorithm(c.b, c.a); got != c.want {
			t.Errorf("%s, turned round: got %v", name, got)
		}
	}
}
