package integration

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/hsm"
	"ocspfleet/hsm/tokenconf"
	"ocspfleet/integration/testkit/softhsm"
	"ocspfleet/signer"

	"golang.org/x/crypto/ocsp"
)

// heldCopy is a copy of certificate status that stands still: one good serial
// per issuer, and the responder certificates.
type heldCopy struct {
	issuers []db.Issuer
	rows    []db.ResponderCertificate
}

const heldSerial = 0x2001

func (c *heldCopy) Issuers() []db.Issuer                             { return c.issuers }
func (c *heldCopy) ResponderCertificates() []db.ResponderCertificate { return c.rows }

func (c *heldCopy) Horizon() db.Horizon {
	now := time.Now()
	return db.Horizon{Epoch: 1, Position: int64(len(c.rows)) + 1, AsOf: now, Received: now}
}

func (c *heldCopy) Lookup(_ context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, db.Horizon, error) {
	known := string(serial) == string(db.Serial{heldSerial >> 8, heldSerial & 0xff}) || slices.ContainsFunc(c.rows, func(r db.ResponderCertificate) bool {
		return r.IssuerID == issuer && string(r.Serial) == string(serial)
	})
	if !known {
		return db.Status{}, c.Horizon(), db.ErrNotIssued
	}
	return db.Status{NotAfter: time.Now().AddDate(1, 0, 0), Reason: db.ReasonNone, Changed: 1}, c.Horizon(), nil
}

// issuingCA is a CA key under a name; several may bear the same.
type issuingCA struct {
	id   db.IssuerID
	key  crypto.Signer
	cert *x509.Certificate
}

func (c *heldCopy) newCA(t *testing.T, name, subject string) *issuingCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &issuingCA{id: db.IssuerID(len(c.issuers) + 1), key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(ca.id)), Subject: pkix.Name{CommonName: subject}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.cert = issued(t, template, template, key.Public(), key)
	c.issuers = append(c.issuers, db.Issuer{
		ID: ca.id, Name: name, Certificate: ca.cert.Raw, Key: sha256.Sum256(append(slices.Clone(ca.cert.RawSubject), ca.cert.RawSubjectPublicKeyInfo...)),
		Policy: db.Policy{
			Version: 1, Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	})
	return ca
}

func issued(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// delegate certifies a responder key by a CA.
func (c *heldCopy) delegate(t *testing.T, ca *issuingCA, public crypto.PublicKey) {
	t.Helper()
	n := int64(0x7000 + len(c.rows))
	cert := issued(t, &x509.Certificate{
		SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: "site-a"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().AddDate(0, 0, 7),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}, ca.cert, public, ca.key)
	c.rows = append(slices.Clone(c.rows), db.ResponderCertificate{
		Fingerprint: sha256.Sum256(cert.Raw), IssuerID: ca.id, Serial: db.SerialFromMagnitude(big.NewInt(n).Bytes(), false), Site: "site-a",
		KeyHash: sha256.Sum256(cert.RawSubjectPublicKeyInfo), DER: cert.Raw,
	})
}

// answered asks in process, verifies with x/crypto, and returns the signer's key.
func answered(t *testing.T, r *signer.Responder, ca *issuingCA) crypto.PublicKey {
	t.Helper()
	asked := &x509.Certificate{SerialNumber: big.NewInt(heldSerial)}
	request, err := ocsp.CreateRequest(asked, ca.cert, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ocsp.ParseResponseForCert(r.Answer(t.Context(), request).Body, asked, ca.cert)
	if err != nil || answer.Status != ocsp.Good || answer.Certificate == nil {
		t.Fatalf("issuer %d: %+v, %v", ca.id, answer, err)
	}
	return answer.Certificate.PublicKey
}

func sameKey(a, b crypto.PublicKey) bool {
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

func (c *heldCopy) responder(t *testing.T, keys signer.Keyring) *signer.Responder {
	t.Helper()
	var pins []signer.Pin
	for _, issuer := range c.issuers {
		pins = append(pins, signer.Pin{Certificate: issuer.Certificate})
	}
	r, err := signer.New(signer.Config{Pins: pins, SignTimeout: 30 * time.Second}, c, keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func openToken(t *testing.T, cfg hsm.Config) *hsm.Token {
	t.Helper()
	cfg.SignTimeout = 30 * time.Second
	token, err := hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

func softToken(t *testing.T) (*softhsm.SoftToken, hsm.Config) {
	t.Helper()
	soft, err := softhsm.New(t.TempDir(), "site-a", "only-a-test-1")
	if err != nil {
		t.Fatal(err)
	}
	return soft, hsm.Config{Config: tokenconf.Config{URI: soft.URI(), SoftHSM2Conf: soft.Conf}}
}

func made(t *testing.T, token *hsm.Token, kind hsm.KeyKind, label string) crypto.PublicKey {
	t.Helper()
	key, err := token.GenerateKey(kind, label)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// Every kind of key signs, alone for an issuer of its own, and all of them lie
// in one token.
func TestKeyOfEveryKindSignsForItsIssuer(t *testing.T) {
	_, cfg := softToken(t)
	token := openToken(t, cfg)
	c := &heldCopy{}
	var cas []*issuingCA
	var keys []crypto.PublicKey
	for _, kind := range []hsm.KeyKind{hsm.P256, hsm.P384, hsm.RSA2048, hsm.RSA3072} {
		ca := c.newCA(t, string(kind), "CA of "+string(kind))
		key := made(t, token, kind, string(kind))
		c.delegate(t, ca, key)
		cas, keys = append(cas, ca), append(keys, key)
	}
	r := c.responder(t, token)
	for i, ca := range cas {
		if !sameKey(answered(t, r, ca), keys[i]) {
			t.Errorf("issuer %s: signed by another's key", c.issuers[i].Name)
		}
	}
}

// One key serves three issuers, two of which are an old and a new CA key under
// one name: each answer is signed by the certificate of the CA key asked about.
func TestOneKeyForSeveralIssuersAndTwoCAKeysOfOneName(t *testing.T) {
	_, cfg := softToken(t)
	token := openToken(t, cfg)
	c := &heldCopy{}
	cas := []*issuingCA{c.newCA(t, "web-2024", "Web CA"), c.newCA(t, "web-2026", "Web CA"), c.newCA(t, "mail", "Mail CA")}
	key := made(t, token, hsm.P256, "a")
	for _, ca := range cas {
		c.delegate(t, ca, key)
	}
	r := c.responder(t, token)
	for i, ca := range cas {
		if !sameKey(answered(t, r, ca), key) {
			t.Errorf("issuer %s: signed by another key", c.issuers[i].Name)
		}
	}
	// A certificate of the old CA key is no signer for the new one, whatever its row says.
	c.rows[1].DER, c.rows[1].Serial, c.rows[1].Fingerprint = c.rows[0].DER, c.rows[0].Serial, c.rows[0].Fingerprint
	c.rows = slices.Clone(c.rows)
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("the certificate of the old CA key was taken for one of the new")
	}
}

// A key per issuer, in two tokens of one process, and the issuer of the one
// answers when the other token is closed.
func TestKeysInTwoTokensOfOneProcess(t *testing.T) {
	soft, cfg := softToken(t)
	pin := put(t, filepath.Join(t.TempDir(), "pin"), "only-a-test-2\n")
	second := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", "site-a-new", "--so-pin", "only-a-test-2", "--pin", "only-a-test-2")
	second.Env = append(os.Environ(), "SOFTHSM2_CONF="+soft.Conf)
	if out, err := second.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	other := cfg
	other.URI, other.Module, other.PINFile = "pkcs11:token=site-a-new", soft.Module, pin
	tokens := hsm.Tokens{openToken(t, cfg), openToken(t, other)}
	c := &heldCopy{}
	cas := []*issuingCA{c.newCA(t, "one", "CA one"), c.newCA(t, "two", "CA two")}
	keys := []crypto.PublicKey{made(t, tokens[0], hsm.P256, "a"), made(t, tokens[1], hsm.P384, "a")}
	for i, ca := range cas {
		c.delegate(t, ca, keys[i])
	}
	r := c.responder(t, tokens)
	for i, ca := range cas {
		if !sameKey(answered(t, r, ca), keys[i]) {
			t.Errorf("issuer %d: signed by the other's key", i)
		}
	}
	if err := tokens[1].Close(); err != nil {
		t.Fatal(err)
	}
	fresh := c.newCA(t, "three", "CA three")
	c.delegate(t, fresh, keys[0])
	c.issuers, c.rows = []db.Issuer{c.issuers[0], c.issuers[2]}, []db.ResponderCertificate{c.rows[0], c.rows[2]}
	if again := c.responder(t, tokens); !sameKey(answered(t, again, cas[0]), keys[0]) || !sameKey(answered(t, again, fresh), keys[0]) {
		t.Error("the first token does not sign alone")
	}
}
