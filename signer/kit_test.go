package signer

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
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// copySource is a copy of certificate status: a map.
type copySource struct {
	mu      sync.RWMutex
	issuers []db.Issuer
	certs   []db.ResponderCertificate
	rows    map[string]db.Status
	horizon db.Horizon
	fault   error
	lookups atomic.Int64
}

func rowKey(issuer db.IssuerID, serial db.Serial) string {
	return string(rune(issuer)) + string(serial)
}

func (c *copySource) Issuers() []db.Issuer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.issuers
}

func (c *copySource) ResponderCertificates() []db.ResponderCertificate {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.certs
}

func (c *copySource) Horizon() db.Horizon {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.horizon
}

func (c *copySource) Lookup(_ context.Context, issuer db.IssuerID, serial db.Serial) (db.Status, db.Horizon, error) {
	c.lookups.Add(1)
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fault != nil {
		return db.Status{}, db.Horizon{}, c.fault
	}
	status, ok := c.rows[rowKey(issuer, serial)]
	if !ok {
		return db.Status{}, c.horizon, db.ErrNotIssued
	}
	return status, c.horizon, nil
}

// change writes rows the way the fleet does: a new position, a new change number.
func (c *copySource) change(at time.Time, issuer db.IssuerID, serial db.Serial, status db.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.horizon.Position++
	c.horizon.AsOf, c.horizon.Received = at, at
	status.Changed = uint64(c.horizon.Position)
	c.rows[rowKey(issuer, serial)] = status
}

func (c *copySource) heartbeat(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.horizon.AsOf, c.horizon.Received = at, at
}

func (c *copySource) edit(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// softKeys is a keyring in memory, with the faults of a token.
type softKeys struct {
	mu    sync.Mutex
	keys  []crypto.Signer
	fault error          // of every signature
	block chan struct{}  // when set, signing waits for it
	wrong bool           // sign with a flipped bit
	panic bool           // panic instead of signing
	signs atomic.Int64   // signatures begun
	asked map[string]int // searches by public key
}

type softKey struct {
	crypto.Signer
	ring *softKeys
}

func (k *softKeys) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

func (k *softKeys) Signer(pub crypto.PublicKey) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	if k.asked == nil {
		k.asked = make(map[string]int)
	}
	k.asked[string(der)]++
	for _, key := range k.keys {
		if key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
			return softKey{key, k}, nil
		}
	}
	return nil, errors.New("looking for the key: not in the token")
}

func (s softKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.ring.signs.Add(1)
	s.ring.mu.Lock()
	fault, block, wrong, panics := s.ring.fault, s.ring.block, s.ring.wrong, s.ring.panic
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
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
	id   db.IssuerID
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newCA(tb testing.TB, id db.IssuerID, name string, key crypto.Signer) *testCA {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(id)), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(9, 0, 0),
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
	return &testCA{cert: cert, key: key, id: id}
}

func (ca *testCA) row(policy db.Policy) db.Issuer {
	return db.Issuer{
		ID: ca.id, Name: ca.cert.Subject.CommonName, Certificate: ca.cert.Raw, Policy: policy,
		Key: sha256.Sum256(append(bytes.Clone(ca.cert.RawSubject), ca.cert.RawSubjectPublicKeyInfo...)),
	}
}

// delegate issues a responder certificate.
func (ca *testCA) delegate(tb testing.TB, serial int64, pub crypto.PublicKey, from, to time.Time, edit ...func(*x509.Certificate)) db.ResponderCertificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "site"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
	}
	for _, f := range edit {
		f(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, pub, ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		tb.Fatal(err)
	}
	return db.ResponderCertificate{
		Fingerprint: sha256.Sum256(der), IssuerID: ca.id, Serial: serialOf(big.NewInt(serial)), Site: "site-a",
		KeyHash: sha256.Sum256(spki), DER: der,
	}
}

func serialOf(n *big.Int) db.Serial {
	return db.SerialFromMagnitude(n.Bytes(), n.Sign() < 0)
}

func testPolicy() db.Policy {
	return db.Policy{
		Version: 1, Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour,
		FreshForUnknown: 15 * time.Minute, HTTPMaxAge: time.Hour, Refresh: 15 * time.Minute, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
	}
}

// The serials of the rig.
var (
	goodSerial    = big.NewInt(0x1001)
	revokedSerial = big.NewInt(0x1002)
	holdSerial    = big.NewInt(0x1003)
	absentSerial  = big.NewInt(0x1004)
	revokedAt     = noon.Add(-48 * time.Hour)
)

const ownSerial = 0x7001

// rig is one site: a CA, a copy, a token and a responder on an injected clock.
type rig struct {
	tb     testing.TB
	ca     *testCA
	source *copySource
	keys   *softKeys
	key    crypto.Signer
	clock  atomic.Int64 // UnixNano
	logs   *bytes.Buffer
	*Responder
}

func (r *rig) time() time.Time     { return time.Unix(0, r.clock.Load()).UTC() }
func (r *rig) setTime(t time.Time) { r.clock.Store(t.UnixNano()) }
func (r *rig) issued() db.Status {
	return db.Status{NotAfter: noon.AddDate(1, 0, 0), Reason: db.ReasonNone}
}

func (r *rig) revokedRow(at time.Time, reason db.Reason) db.Status {
	return db.Status{NotAfter: noon.AddDate(1, 0, 0), Revoked: true, RevokedAt: at, Reason: reason}
}

func (r *rig) policy(f func(*db.Policy)) {
	r.tb.Helper()
	r.source.edit(func() {
		rows := slices.Clone(r.source.issuers)
		f(&rows[0].Policy)
		rows[0].Policy.Version++
		r.source.issuers = rows
	})
	r.refreshed()
}

func (r *rig) addCert(c db.ResponderCertificate) {
	r.source.edit(func() { r.source.certs = append(slices.Clone(r.source.certs), c) })
	r.source.change(r.time(), c.IssuerID, c.Serial, r.issued())
}

func (r *rig) refreshed() {
	r.tb.Helper()
	if err := r.Refresh(context.Background()); err != nil {
		r.tb.Fatal(err)
	}
}

func newRig(tb testing.TB, edit ...func(*Config)) *rig {
	tb.Helper()
	return newRigWith(tb, newKey(tb), newKey(tb), edit...)
}

func newRigWith(tb testing.TB, caKey, key crypto.Signer, edit ...func(*Config)) *rig {
	tb.Helper()
	r := &rig{
		tb: tb, ca: newCA(tb, 1, "root-one", caKey), key: key, keys: &softKeys{keys: []crypto.Signer{key}},
		source: &copySource{rows: make(map[string]db.Status)}, logs: new(bytes.Buffer),
	}
	r.setTime(noon)
	r.source.issuers = []db.Issuer{r.ca.row(testPolicy())}
	r.source.change(noon, r.ca.id, serialOf(goodSerial), r.issued())
	r.source.change(noon, r.ca.id, serialOf(revokedSerial), r.revokedRow(revokedAt, db.ReasonSuperseded))
	r.source.change(noon, r.ca.id, serialOf(holdSerial), r.revokedRow(revokedAt, db.ReasonCertificateHold))
	r.addCert(r.ca.delegate(tb, ownSerial, key.Public(), noon.Add(-24*time.Hour), noon.Add(6*24*time.Hour)))
	cfg := Config{
		Pins: []Pin{{Certificate: r.ca.cert.Raw}}, Now: r.time,
		Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: r.logs}, nil)),
	}
	for _, f := range edit {
		f(&cfg)
	}
	responder, err := New(cfg, r.source, r.keys)
	if err != nil {
		tb.Fatal(err)
	}
	r.Responder = responder
	r.refreshed()
	return r
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
