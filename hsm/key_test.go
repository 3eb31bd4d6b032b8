package hsm

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

func TestGenerateKeyOfEveryKind(t *testing.T) {
	if testing.Short() {
		t.Skip("makes keys of every kind")
	}
	soft := newSoft(t)
	token := openSoft(t, configOf(soft), false)
	kinds := []KeyKind{P256, P384, RSA2048, RSA3072}
	for _, kind := range kinds {
		key := makeKey(t, token, kind, string(kind))
		if err := signOnce(key); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		l, _, _ := token.state()
		name, id, err := nameOf(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.ctx.GetAttributes(l.signer(name), []crypto11.AttributeType{
			crypto11.CkaExtractable, crypto11.CkaSensitive, crypto11.CkaNeverExtractable, crypto11.CkaPrivate,
			crypto11.CkaSign, crypto11.CkaDecrypt, crypto11.CkaId,
		})
		if err != nil {
			t.Fatal(err)
		}
		for a, want := range map[crypto11.AttributeType][]byte{
			crypto11.CkaExtractable: {0}, crypto11.CkaSensitive: {1}, crypto11.CkaNeverExtractable: {1},
			crypto11.CkaPrivate: {1}, crypto11.CkaSign: {1}, crypto11.CkaDecrypt: {0}, crypto11.CkaId: id,
		} {
			if !bytes.Equal(got[a].Value, want) {
				t.Errorf("%s: attribute %#x is %x, want %x", kind, a, got[a].Value, want)
			}
		}
	}
	keys, err := token.Keys()
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != len(kinds) {
		t.Fatalf("%d keys listed, want %d", len(keys), len(kinds))
	}
	for i, key := range keys { // kinds are in the order of their labels
		if key.Kind != kinds[i] || key.Label != string(kinds[i]) || len(key.ID) != 20 {
			t.Errorf("listed as %s %q with id %x, want %s", key.Kind, key.Label, key.ID, kinds[i])
		}
		if want := spkiHash(t, key.Public); key.Fingerprint != want {
			t.Errorf("%s: fingerprint %x, want %x", key.Kind, key.Fingerprint, want)
		}
	}
}

func TestGenerateKeyRefusesATakenLabel(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	makeKey(t, token, P256, "a")
	for _, kind := range []KeyKind{P256, RSA2048} {
		if _, err := token.GenerateKey(kind, "a"); !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), "another label") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, label := range []string{"", strings.Repeat("x", maxLabelLen+1)} {
		if _, err := token.GenerateKey(P256, label); err == nil {
			t.Errorf("label %q accepted", label)
		}
	}
	if _, err := token.GenerateKey("dsa", "b"); !errors.Is(err, errUnsupported) {
		t.Errorf("kind dsa: %v", err)
	}
	if keys, err := token.Keys(); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v; want 1", len(keys), err)
	}
	if err := token.Health(); err != nil {
		t.Error(err)
	}
}

// Keys made by other tools have other ids, and may share theirs.
func TestKeysOfOtherToolsAreFoundByTheirPublicKey(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	l, _, _ := token.state()
	for _, kind := range []KeyKind{P256, P384, RSA2048} {
		first, err := l.generate(kind, []byte{1}, "made by "+string(kind))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.generate(kind, []byte{2}, "other"); err != nil {
			t.Fatal(err)
		}
		key, err := token.Signer(first.Public())
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if err := signOnce(key); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// PKCS#11 allows two pairs of one id and label; the public half found beside a
// private one may then belong to the other.
func TestTwoPairsOfOneIDNeverSignWithTheWrongHalf(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	l, _, _ := token.state()
	for range 2 {
		made, err := l.generate(P256, []byte{7}, "twin")
		if err != nil {
			t.Fatal(err)
		}
		key, err := token.Signer(made.Public())
		if errors.Is(err, ErrNoKey) {
			continue // hidden behind its twin: refused, not mistaken
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := signOnce(key); err != nil {
				t.Error(err)
			}
		}
	}
}

// crypto11 gives up on the whole list when it meets a key that it cannot use.
func TestAKeyOfAForeignCurveDoesNotBlindTheToken(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	p := token.module.ctx
	session, err := p.OpenSession(token.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	secp256k1, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	_, _, err = p.GenerateKeyPair(session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, secp256k1),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CloseSession(session); err != nil {
		t.Fatal(err)
	}
	l, _, _ := token.state()
	if _, err := l.ctx.FindAllKeyPairs(); err == nil {
		t.Error("crypto11 lists the foreign key now: this test has lost its point")
	}
	key := makeKey(t, token, P256, "ours")
	if err := signOnce(key); err != nil {
		t.Error(err)
	}
	if keys, err := token.Keys(); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v; want 1", len(keys), err)
	}
}

func TestParseKeyKind(t *testing.T) {
	for text, want := range map[string]KeyKind{"p256": P256, "P-256": P256, "P-384": P384, "RSA-2048": RSA2048, "rsa3072": RSA3072} {
		if got, err := ParseKeyKind(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "ed25519", "rsa1024", "p224", "x"} {
		if got, err := ParseKeyKind(text); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// openssl is the judge of the request and of the proof of possession in it.
func TestCSRIsVerifiedByOpenSSL(t *testing.T) {
	token := openSoft(t, configOf(newSoft(t)), false)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not there: apt install openssl")
	}
	for _, kind := range []KeyKind{P256, P384, RSA2048} {
		pem, err := CSR(makeKey(t, token, kind, string(kind)), "site-a")
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "site-a.csr")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), openssl, "req", "-in", file, "-verify", "-noout", "-subject").CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("self-signature verify OK")) || !bytes.Contains(out, []byte("CN = site-a")) {
			t.Errorf("%s: %v: %s", kind, err, out)
		}
	}
}

func TestCSRRefusesOddSiteNames(t *testing.T) {
	for _, site := range []string{"", "-a", "a/b", "a b", "ä", strings.Repeat("a", 65), "a\n"} {
		if _, err := CSR(nil, site); err == nil || !strings.Contains(err.Error(), "site") {
			t.Errorf("%q: %v", site, err)
		}
	}
}
