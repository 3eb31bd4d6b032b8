package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"ocspfleet/integration/testkit/faultpkcs11"
)

// foreign makes a P-256 pair as another tool might and returns its public key.
// keep is called with the handles of both halves.
func foreign(t *testing.T, token *Token, label string, id []byte, eachTime bool, keep func(p *pkcs11.Ctx, s pkcs11.SessionHandle, public, private pkcs11.ObjectHandle) error) crypto.PublicKey {
	t.Helper()
	p := token.module.ctx
	session, err := p.OpenSession(token.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.CloseSession(session) }()
	params, err := curveParams(elliptic.P256())
	if err != nil {
		t.Fatal(err)
	}
	names := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	public, private, err := p.GenerateKeyPair(session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params)}, names...),
		append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_AUTHENTICATE, eachTime),
		}, names...))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.GetAttributeValue(session, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		t.Fatal(err)
	}
	var point []byte
	if _, err := asn1.Unmarshal(got[0].Value, &point); err != nil {
		t.Fatal(err)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	if keep != nil {
		if err := keep(p, session, public, private); err != nil {
			t.Fatal(err)
		}
	}
	return pub
}

// Signing with such a key is refused as if nobody were logged in (CKR_USER_NOT_LOGGED_IN),
// which must not cost the other keys their sessions.
func TestKeyThatAsksForItsPINEachTimeIsLeftAlone(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	ours := makeKey(t, token, P256, "ours")
	pub := foreign(t, token, "piv", []byte{2}, true, nil)
	before, _, _ := token.state()
	if _, err := token.Signer(pub); !errors.Is(err, errEachTime) || errors.Is(err, ErrUnavailable) {
		t.Errorf("Signer: %v", err)
	}
	if after, _, reason := token.state(); after != before {
		t.Errorf("the token was made anew: %v", reason)
	}
	if err := signOnce(ours); err != nil {
		t.Error(err)
	}
	if keys, err := token.Keys(); err != nil || len(keys) != 1 || keys[0].Label != "ours" {
		t.Errorf("Keys: %v, %v", keys, err)
	}
	odd, err := token.Oddities()
	if err != nil || len(odd) != 1 || !strings.Contains(odd[0], `"piv" (id 02): the key asks for the PIN anew`) {
		t.Errorf("Oddities: %v, %v", odd, err)
	}
}

// What keeps a key from being used, or from being told from another, is said.
func TestOddKeysAreNamedAsTheyAre(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	makeKey(t, token, P256, "sound")
	if odd, err := token.Oddities(); err != nil || len(odd) != 0 {
		t.Fatalf("of a sound key: %v, %v", odd, err)
	}
	foreign(t, token, "halved", []byte{0x11}, false, func(p *pkcs11.Ctx, s pkcs11.SessionHandle, public, _ pkcs11.ObjectHandle) error {
		return p.DestroyObject(s, public)
	})
	foreign(t, token, "parted", []byte{0x12}, false, func(p *pkcs11.Ctx, s pkcs11.SessionHandle, public, _ pkcs11.ObjectHandle) error {
		return p.SetAttributeValue(s, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{0x13})})
	})
	foreign(t, token, "namesake", []byte{0x14}, false, nil)
	foreign(t, token, "namesake", []byte{0x15}, false, nil)
	foreign(t, token, "twin 1", []byte{0x16}, false, nil)
	foreign(t, token, "twin 2", []byte{0x16}, false, nil)
	odd, err := token.Oddities()
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(odd, "\n")
	for _, want := range []string{
		`key "halved" (id 11) has no public half`,
		`key "parted": the private half has the id 12, the public half 13`,
		`2 keys have the label "namesake"`,
		`2 keys have the id 16`,
	} {
		if strings.Count(all, want) != 1 {
			t.Errorf("%q is not said once in:\n%s", want, all)
		}
	}
	if len(odd) != 4 {
		t.Errorf("said:\n%s", all)
	}
}

// A token without the curve, or in a mode that forbids the mechanism.
func TestKindThatTheTokenDoesNotMakeIsSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("makes keys of every kind")
	}
	s, _, cfg := faulty(t)
	token := openSoft(t, cfg, false)
	for _, code := range []uint{pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED, pkcs11.CKR_DOMAIN_PARAMS_INVALID} {
		set(t, s, faultpkcs11.Faults{KeygenError: code})
		if _, err := token.GenerateKey(P256, "a"); !errors.Is(err, ErrKind) {
			t.Errorf("%#x: %v", code, err)
		}
	}
	set(t, s, faultpkcs11.Faults{})
	makeKey(t, token, RSA2048, "a")
}
