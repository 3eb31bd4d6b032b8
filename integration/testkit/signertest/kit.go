package signertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"ocspfleet/db"
)

// SignCRL makes a CRL of this number.
func (ca *CA) SignCRL(t *testing.T, number int64) []byte {
	t.Helper()
	issuer := *ca.Cert
	issuer.KeyUsage, issuer.SubjectKeyId = x509.KeyUsageCRLSign, []byte{1}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: Noon.Add(-time.Hour), NextUpdate: Noon.Add(time.Hour),
	}, &issuer, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Noon is when the tests begin.
var Noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// copySource is a copy of certificate status: a map.
type Copy struct {
	mu         sync.RWMutex
	IssuerRows []db.Issuer
	Certs      []db.ResponderCertificate
	Rows       map[string]db.Status
	At         db.Horizon
	Fault      error
	Lookups    atomic.Int64
}

// RowKey is the key of a certificate in Copy.Rows.
func RowKey(issuer db.IssuerID, serial db.Serial) string {
	return string(rune(issuer)) + string(serial)
}

// Issuers implements signer.Source, as the three below do.
func (c *Copy) Issuers() []db.Issuer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.IssuerRows
}

// ResponderCertificates are Certs.
func (c *Copy) ResponderCertificates() []db.ResponderCertificate {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.Certs
}

// Horizon is At.
func (c *Copy) Horizon() db.Horizon {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.At
}

// Lookup finds a row, or the fault.
func (c *Copy) Lookup(_ context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, db.Horizon, error) {
	c.Lookups.Add(1)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.Fault != nil {
		return db.Status{}, db.Horizon{}, c.Fault
	}
	status, ok := c.Rows[RowKey(issuer, serial)]
	if !ok {
		return db.Status{}, c.At, db.ErrNotIssued
	}
	return status, c.At, nil
}

// Change writes rows the way the fleet does: a new position, a new change number.
func (c *Copy) Change(at time.Time, issuer db.IssuerID, serial db.Serial, status db.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.At.Position++
	c.At.AsOf, c.At.Received = at, at
	status.Changed = uint64(c.At.Position)
	c.Rows[RowKey(issuer, serial)] = status
}

// Heartbeat confirms the copy as of at.
func (c *Copy) Heartbeat(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.At.AsOf, c.At.Received = at, at
}

// Edit changes fields.
func (c *Copy) Edit(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// softKeys is a keyring in memory, with the faults of a token.
type Keyring struct {
	mu    sync.Mutex
	Keys  []crypto.Signer
	Fault error          // of every signature
	Block chan struct{}  // when set, signing waits for it
	Wrong bool           // sign with a flipped bit
	Panic bool           // panic instead of signing
	Signs atomic.Int64   // signatures begun
	Asked map[string]int // searches by public key
}

type ringKey struct {
	crypto.Signer
	ring *Keyring
}

// Set changes fields.
func (k *Keyring) Set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// Signer implements signer.Keyring.
func (k *Keyring) Signer(pub crypto.PublicKey) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	if k.Asked == nil {
		k.Asked = make(map[string]int)
	}
	k.Asked[string(der)]++
	for _, key := range k.Keys {
		if key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
			return ringKey{key, k}, nil
		}
	}
	return nil, errors.New("looking for the key: not in the token")
}

// Sign signs, with the faults that are set.
func (s ringKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.ring.Signs.Add(1)
	s.ring.mu.Lock()
	fault, block, wrong, panics := s.ring.Fault, s.ring.Block, s.ring.Wrong, s.ring.Panic
	s.ring.mu.Unlock()
	if block != nil {
		<-block
	}
	if panics {
		panic("the module broke")
	}
	if fault != nil {
		return nil, fault
	}
	if wrong {
		digest = slices.Clone(digest)
		digest[0] ^= 1
	}
	return s.Signer.Sign(rand.Reader, digest, opts)
}

// testCA is an issuer with its key.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	ID   db.IssuerID
}

// RSAKey is one key for all tests: it takes long to make.
var RSAKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// NewKey makes a P-256 key.
func NewKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// NewCA makes a CA of that name for key.
func NewCA(tb testing.TB, id db.IssuerID, name string, key crypto.Signer) *CA {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(id)), Subject: pkix.Name{CommonName: name},
		NotBefore: Noon.AddDate(-1, 0, 0), NotAfter: Noon.AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return &CA{Cert: cert, Key: key, ID: id}
}

// Row is the CA as the copy has it.
func (ca *CA) Row(policy db.Policy) db.Issuer {
	return db.Issuer{
		ID: ca.ID, Name: ca.Cert.Subject.CommonName, Certificate: ca.Cert.Raw, Policy: policy,
		Key: sha256.Sum256(append(bytes.Clone(ca.Cert.RawSubject), ca.Cert.RawSubjectPublicKeyInfo...)),
	}
}

// Delegate issues a responder certificate.
func (ca *CA) Delegate(tb testing.TB, serial int64, pub crypto.PublicKey, from, to time.Time, edit ...func(*x509.Certificate)) db.ResponderCertificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "site"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	for _, f := range edit {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, pub, ca.Key)
	if err != nil {
		tb.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		tb.Fatal(err)
	}
	return db.ResponderCertificate{
		Fingerprint: sha256.Sum256(der), IssuerID: ca.ID, Serial: Serial(big.NewInt(serial)), Site: "site-a",
		KeyHash: sha256.Sum256(spki), DER: der,
	}
}

// Serial is n as the database writes it.
func Serial(n *big.Int) db.Serial {
	return db.SerialFromMagnitude(n.Bytes(), n.Sign() < 0)
}

// Policy is the one that the tests begin with.
func Policy() db.Policy {
	return db.Policy{
		Version: 1, Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour,
		FreshForUnknown: 15 * time.Minute, HTTPMaxAge: time.Hour, Refresh: 15 * time.Minute, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
	}
}

// The serials of the rig.
var GoodSerial, RevokedSerial, HoldSerial, AbsentSerial = big.NewInt(0x1001), big.NewInt(0x1002), big.NewInt(0x1003), big.NewInt(0x1004)

// RevokedAt is when RevokedSerial and HoldSerial were revoked.
var RevokedAt = Noon.Add(-48 * time.Hour)

// OwnSerial is that of the site's responder certificate.
const OwnSerial = 0x7001

// Request asks for one serial.
func Request(tb testing.TB, ca *CA, hash crypto.Hash, serial *big.Int) []byte {
	tb.Helper()
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, ca.Cert, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// certIDOf cuts the CertID out of a plain request.
func CertID(tb testing.TB, request []byte) []byte {
	tb.Helper()
	in := cryptobyte.String(request)
	var outer, tbs, list, single, id cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) || !tbs.ReadASN1(&list, asn1.SEQUENCE) ||
		!list.ReadASN1(&single, asn1.SEQUENCE) || !single.ReadASN1Element(&id, asn1.SEQUENCE) {
		tb.Fatal("cutting the CertID: malformed request")
	}
	return id
}

// Join makes one request of many, with a nonce when it is not nil.
func Join(tb testing.TB, nonce []byte, requests ...[]byte) []byte {
	tb.Helper()
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, r := range requests {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(CertID(tb, r)) })
				}
			})
			if nonce == nil {
				return
			}
			b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes([]byte{6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2})
						b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}
