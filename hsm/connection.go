package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"ocspfleet/db"
	"ocspfleet/hsm/tokenconf"

	"github.com/ThalesIgnite/crypto11"
)

// connection is one open connection to the token: a crypto11 Context and the keys found through
// it. It is replaced whole when the sessions are lost.
type connection struct {
	ctx *crypto11.Context
	uri tokenconf.URI // its object and id limit which keys are ours; empty: all

	// inside is read-locked by every call into the library, so that no call is inside when
	// close finalises the library: SoftHSM crashes otherwise.
	inside sync.RWMutex
	closed bool // guarded by inside

	mu   sync.Mutex
	keys map[keyName]crypto.Signer // guarded by mu; a key that was not found is absent
}

// keyName is the SHA-256 of a SubjectPublicKeyInfo.
type keyName [sha256.Size]byte

// String returns enough of the name to tell keys apart in a log.
func (n keyName) String() string { return hex.EncodeToString(n[:8]) }

// nameOf returns the name of a public key, and its CKA_ID as we set it: db.KeyID.
func nameOf(pub crypto.PublicKey) (keyName, []byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return keyName{}, nil, fmt.Errorf("encoding the public key: %w", err)
	}
	id, err := db.KeyID(der)
	if err != nil {
		return keyName{}, nil, err
	}
	return sha256.Sum256(der), id[:], nil
}

// dial loads the library and logs in to the token at that place, with one attempt.
func dial(module string, s tokenconf.Settings, at place, pin string) (*connection, error) {
	config := &crypto11.Config{
		Path:            module,
		Pin:             pin,
		MaxSessions:     s.MaxSessions,
		PoolWaitTimeout: s.SignTimeout, // 0 would wait without limit
	}
	if at.only {
		config.TokenSerial = at.info.SerialNumber
	} else {
		slot := int(at.slot)
		config.SlotNumber = &slot
	}
	ctx, err := crypto11.Configure(config)
	if err != nil {
		if fix, refused := pinRefused(err); refused {
			return nil, fmt.Errorf("logging in with the PIN of %s: %w (%w): %s", s.PINFile, tokenconf.ErrPIN, err, fix)
		}
		return nil, fmt.Errorf("opening token %s: %w", s.Name(), err)
	}
	return &connection{ctx: ctx, uri: s.Parsed, keys: make(map[keyName]crypto.Signer)}, nil
}

// enter says whether the connection is still open; after true the caller must call leave.
func (c *connection) enter() bool {
	c.inside.RLock()
	if c.closed {
		c.inside.RUnlock()
		return false
	}
	return true
}

func (c *connection) leave() { c.inside.RUnlock() }

// close ends the sessions. It then finalises the library, which has no other user in the
// process, so the next dial sees the token in its current state. It waits for calls inside the
// library, so it can hang like them. A second call does nothing: crypto11 would count it
// against other users of the library.
func (c *connection) close() {
	c.inside.Lock()
	defer c.inside.Unlock()
	if !c.closed {
		c.closed = true
		_ = c.ctx.Close() // always nil
	}
}

// signer returns the key of pub found earlier, or nil.
func (c *connection) signer(name keyName) crypto.Signer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[name]
}

// set keeps a key that was found; nil removes it.
func (c *connection) set(name keyName, key crypto.Signer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key == nil {
		delete(c.keys, name)
		return
	}
	c.keys[name] = key
}

// find looks for the private key of pub and proves it by a signature: two pairs may share label
// and id, and then a public half proves nothing about the private half beside it.
func (c *connection) find(pub crypto.PublicKey) (crypto.Signer, error) {
	_, id, err := nameOf(pub)
	if err != nil {
		return nil, err
	}
	byID, err := c.pairs(crypto11.CkaId, id)
	if err != nil {
		return nil, fmt.Errorf("finding the key by its id: %w", err)
	}
	key, testErr := c.proven(byID, pub)
	if key != nil {
		return key, nil
	}
	// The key was made by another tool, under another id: search all keys of the same kind and
	// curve. A wider search would fail, since crypto11 returns an error on a key that it cannot
	// use.
	alike, err := c.alike(pub)
	if err != nil {
		return nil, fmt.Errorf("finding the key among all: %w", err)
	}
	key, err = c.proven(alike, pub)
	if key != nil {
		return key, nil
	}
	switch err = errors.Join(testErr, err); {
	case err == nil:
		return nil, ErrNoKey
	case errors.Is(err, errEachTime):
		return nil, errEachTime
	case errors.Is(err, ErrBadSignature):
		return nil, fmt.Errorf("%w: the private half beside its public key signs wrongly", ErrNoKey)
	}
	return nil, err
}

// proven returns the first of keys that belongs to pub and signs correctly.
func (c *connection) proven(keys []crypto11.Signer, pub crypto.PublicKey) (key crypto.Signer, err error) {
	for _, k := range keys {
		if !samePublicKey(k.Public(), pub) {
			continue
		}
		if c.eachTime(k) {
			err = errEachTime
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

// pairs returns the key pairs whose private half has this attribute, and the label and id of
// the URI (RFC 7512 section 2.3: all attributes must match).
func (c *connection) pairs(attribute crypto11.AttributeType, value any) ([]crypto11.Signer, error) {
	set := crypto11.NewAttributeSet()
	if err := set.Set(attribute, value); err != nil {
		return nil, err
	}
	if c.uri.Object != "" {
		if err := set.Set(crypto11.CkaLabel, []byte(c.uri.Object)); err != nil {
			return nil, err
		}
	}
	if len(c.uri.ID) > 0 { // instead of an id asked for: the public half shows whose key it is
		if err := set.Set(crypto11.CkaId, c.uri.ID); err != nil {
			return nil, err
		}
	}
	return c.ctx.FindKeyPairsWithAttributes(set)
}

// alike returns the key pairs of the same modulus, or of the same curve.
func (c *connection) alike(pub crypto.PublicKey) ([]crypto11.Signer, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return c.pairs(crypto11.CkaModulus, pub.N.Bytes())
	case *ecdsa.PublicKey:
		params, err := curveParams(pub.Curve)
		if err != nil {
			return nil, err
		}
		return c.pairs(crypto11.CkaEcParams, params)
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

// selfTest signs a constant once and verifies the signature.
func selfTest(key crypto.Signer) error {
	digest := sha256.Sum256([]byte("ocspfleet self-test: this signature says nothing"))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("making a signature as a test: %w", err)
	}
	return verify(key.Public(), digest[:], crypto.SHA256, signature)
}

// verify returns ErrBadSignature unless the signature is correct.
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
