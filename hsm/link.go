package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // names a key (CKA_ID), protects nothing
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// link is one life of the connection: a crypto11 Context and the keys found
// through it. It is replaced whole when the sessions are lost.
type link struct {
	ctx *crypto11.Context

	mu   sync.Mutex
	keys map[keyName]crypto.Signer // guarded by mu; a key that was looked for and not found is absent
}

// keyName is the SHA-256 of a SubjectPublicKeyInfo.
type keyName [sha256.Size]byte

// nameOf returns the name of a public key, and its CKA_ID as we set it: SHA-1
// of the content of the BIT STRING subjectPublicKey, which is also the key
// hash of RFC 6960 section 4.1.1 and the usual subject key identifier.
func nameOf(pub crypto.PublicKey) (keyName, []byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return keyName{}, nil, fmt.Errorf("encoding the public key: %w", err)
	}
	var info struct {
		Algorithm asn1.RawValue
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return keyName{}, nil, fmt.Errorf("decoding the public key: %w", err)
	}
	id := sha1.Sum(info.PublicKey.Bytes) //nolint:gosec // see above
	return sha256.Sum256(der), id[:], nil
}

// dial loads the library, finds the token and logs in, once.
func dial(module string, s settings, pin string) (*link, error) {
	config := &crypto11.Config{
		Path:            module,
		Pin:             pin,
		MaxSessions:     s.MaxSessions,
		PoolWaitTimeout: s.SignTimeout, // 0 would wait for ever
	}
	if s.uri.Serial != "" {
		config.TokenSerial = s.uri.Serial
	} else {
		config.TokenLabel = s.uri.Token
	}
	ctx, err := crypto11.Configure(config)
	if err != nil {
		if fix, refused := pinRefused(err); refused {
			return nil, fmt.Errorf("logging in with the PIN of %s: %w (%w): %s", s.PINFile, ErrPIN, err, fix)
		}
		return nil, fmt.Errorf("opening token %s: %w", s.name(), err)
	}
	return &link{ctx: ctx, keys: make(map[keyName]crypto.Signer)}, nil
}

// name is how the token is called in errors and logs.
func (s settings) name() string {
	if s.uri.Token != "" {
		return fmt.Sprintf("%q", s.uri.Token)
	}
	return fmt.Sprintf("with serial number %q", s.uri.Serial)
}

// close ends the sessions and, since nothing else in the process uses the
// library, finalises it: the next dial sees the token as it is then. It waits
// for calls inside the library, so it can hang like them.
func (l *link) close() { _ = l.ctx.Close() } // always nil; must be called once only

// signer returns the key of pub as found earlier, or nil.
func (l *link) signer(name keyName) crypto.Signer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[name]
}

// set keeps a key that was found, or with nil forgets it.
func (l *link) set(name keyName, key crypto.Signer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key == nil {
		delete(l.keys, name)
		return
	}
	l.keys[name] = key
}

// find looks for the private key of pub and proves it by a signature: two
// pairs may share label and id, and then a public half says nothing of the
// private half beside it.
func (l *link) find(pub crypto.PublicKey) (crypto.Signer, error) {
	_, id, err := nameOf(pub)
	if err != nil {
		return nil, err
	}
	byID, err := l.pairs(crypto11.CkaId, id)
	if err != nil {
		return nil, fmt.Errorf("finding the key by its id: %w", err)
	}
	key, testErr := proven(byID, pub)
	if key != nil {
		return key, nil
	}
	// Made by another tool, under another id: look at all keys of its kind. By
	// kind and curve, for crypto11 fails whole on a key that it cannot use.
	alike, err := l.alike(pub)
	if err != nil {
		return nil, fmt.Errorf("finding the key among all: %w", err)
	}
	key, err = proven(alike, pub)
	if key != nil {
		return key, nil
	}
	switch err = errors.Join(testErr, err); {
	case err == nil:
		return nil, ErrNoKey
	case errors.Is(err, ErrBadSignature):
		return nil, fmt.Errorf("%w: the private half beside its public key signs wrongly", ErrNoKey)
	}
	return nil, err
}

// proven returns the first of keys that belongs to pub and signs rightly.
func proven(keys []crypto11.Signer, pub crypto.PublicKey) (key crypto.Signer, err error) {
	for _, k := range keys {
		if !samePublicKey(k.Public(), pub) {
			continue
		}
		if err = selfTest(k); err == nil {
			return k, nil
		}
	}
	return nil, err
}

func samePublicKey(a, b crypto.PublicKey) bool {
	comparable, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(b)
}

// pairs returns the key pairs whose private half has this attribute.
func (l *link) pairs(attribute crypto11.AttributeType, value any) ([]crypto11.Signer, error) {
	set := crypto11.NewAttributeSet()
	if err := set.Set(attribute, value); err != nil {
		return nil, err
	}
	return l.ctx.FindKeyPairsWithAttributes(set)
}

// alike returns the key pairs of the same modulus, or of the same curve.
func (l *link) alike(pub crypto.PublicKey) ([]crypto11.Signer, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return l.pairs(crypto11.CkaModulus, pub.N.Bytes())
	case *ecdsa.PublicKey:
		params, err := curveParams(pub.Curve)
		if err != nil {
			return nil, err
		}
		return l.pairs(crypto11.CkaEcParams, params)
	}
	return nil, fmt.Errorf("public key of type %T: %w", pub, errUnsupported)
}

// curveParams is CKA_EC_PARAMS: the curve's object identifier (RFC 5480 section 2.1.1.1).
func curveParams(curve elliptic.Curve) ([]byte, error) {
	switch curve {
	case elliptic.P256():
		return asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	case elliptic.P384():
		return asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 34})
	}
	return nil, fmt.Errorf("curve %s: %w", curve.Params().Name, errUnsupported)
}

// selfTest makes one signature over a constant and verifies it.
func selfTest(key crypto.Signer) error {
	digest := sha256.Sum256([]byte("ocspfleet self-test: this signature says nothing"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("making a signature as a test: %w", err)
	}
	return verify(key.Public(), digest[:], crypto.SHA256, signature)
}

// verify returns ErrBadSignature unless the signature is right.
func verify(pub crypto.PublicKey, digest []byte, hash crypto.Hash, signature []byte) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(pub, hash, digest, signature); err != nil {
			return ErrBadSignature
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest, signature) {
			return ErrBadSignature
		}
	default:
		return errUnsupported
	}
	return nil
}

// TokenInfo is what the token says of itself.
type TokenInfo struct {
	Label, Serial, Manufacturer, Model string
	Module                             string // path of the library
	Sessions                           int    // that sign at a time
}

// module is a second handle on the library, for what crypto11 does not offer:
// token information, labels, and setting CKA_ID. It stays loaded for the life
// of the process, since unloading a PKCS#11 library is where many crash
// (SoftHSMv2 #635), and never initialises while a link is up.
type module struct {
	path  string
	ctx   *pkcs11.Ctx
	owned bool // a Token has it; guarded by modulesMu
}

// PKCS#11 state belongs to the process (C_Initialize, C_Login and C_Finalize
// act on all users of the library in it), so the record of it does too.
var (
	modulesMu sync.Mutex
	modules   = map[string]*module{}
)

// own loads the library and takes it for one Token.
func own(path string) (*module, error) {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	m := modules[path]
	if m == nil {
		ctx := pkcs11.New(path)
		if ctx == nil {
			return nil, fmt.Errorf("loading PKCS#11 library %q: it is no loadable PKCS#11 library for this machine", path)
		}
		m = &module{path: path, ctx: ctx}
		modules[path] = m
	}
	if m.owned {
		return nil, fmt.Errorf("loading PKCS#11 library %q: a token of it is open in this process already, close that one first", path)
	}
	m.owned = true
	return m, nil
}

func (m *module) release() {
	modulesMu.Lock()
	defer modulesMu.Unlock()
	m.owned = false
}

// slot returns the token's slot while a link is up.
func (m *module) slot(uri URI) (uint, pkcs11.TokenInfo, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("listing slots: %w", err)
	}
	for _, slot := range slots {
		info, err := m.ctx.GetTokenInfo(slot)
		if err != nil {
			continue // the slot of another token
		}
		if (uri.Serial == "" || uri.Serial == info.SerialNumber) && (uri.Token == "" || uri.Token == info.Label) {
			return slot, info, nil
		}
	}
	return 0, pkcs11.TokenInfo{}, errors.New("listing slots: the token is in none")
}

// labels lists the tokens that there are, for the text of an error. Only when
// no link is up: it initialises and finalises the library.
func (m *module) labels() string {
	if err := m.ctx.Initialize(); err != nil {
		return "" // the error that led here says enough
	}
	defer func() { _ = m.ctx.Finalize() }()
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return ""
	}
	var found []string
	for _, slot := range slots {
		if info, err := m.ctx.GetTokenInfo(slot); err == nil && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			found = append(found, fmt.Sprintf("%q (serial %s)", info.Label, info.SerialNumber))
		}
	}
	if len(found) == 0 {
		return "; the library knows no initialised token: initialise one, or check the library's configuration (SoftHSM: softhsm2_conf)"
	}
	return "; the library knows " + strings.Join(found, ", ")
}
