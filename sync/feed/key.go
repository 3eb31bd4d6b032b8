package feed

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
)

// Key signs for a feed: checkpoints, or as its root the key sets. It is a
// note.Signer.
type Key struct {
	name     string
	private  ed25519.PrivateKey
	verifier string
	hash     uint32
}

// NewKey names an Ed25519 key; the name is the feed's origin.
func NewKey(name string, private ed25519.PrivateKey) (*Key, error) {
	verifier, err := note.NewEd25519VerifierKey(name, private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("naming key %q: %w", name, err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return nil, fmt.Errorf("naming key %q: %w", name, err)
	}
	return &Key{name: name, private: private, verifier: verifier, hash: v.KeyHash()}, nil
}

// Name, KeyHash and Sign make it a note.Signer.
func (k *Key) Name() string { return k.name }

// KeyHash returns the first 32 bits of SHA-256 over name and public key (C2SP signed-note).
func (k *Key) KeyHash() uint32 { return k.hash }

// Sign signs a note's text.
func (k *Key) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(k.private, msg), nil }

// Verifier returns the public half in C2SP's form, NAME+HASH+BASE64: key sets list it, and
// sites pin the root's.
func (k *Key) Verifier() string { return k.verifier }

// LoadKey reads an Ed25519 key from a PKCS#8 PEM file that only its owner can read, as openssl
// genpkey -algorithm ed25519 writes it.
func LoadKey(path, name string) (*Key, error) {
	private, err := LoadPrivate(path)
	if err != nil {
		return nil, err
	}
	return NewKey(name, private)
}

// LoadPrivate is LoadKey without a name.
func LoadPrivate(path string) (ed25519.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the feed key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the feed key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the feed key: %s has mode %04o: run chmod 0600 on it", path, info.Mode().Perm())
	}
	raw := make([]byte, 4096)
	n, err := f.Read(raw)
	if err != nil {
		return nil, fmt.Errorf("reading the feed key: %w", err)
	}
	private, err := parseKey(raw[:n])
	if err != nil {
		return nil, fmt.Errorf("reading the feed key %s: %w", path, err)
	}
	return private, nil
}

var errKey = errors.New("want one Ed25519 key, PKCS#8 in PEM, as openssl genpkey -algorithm ed25519 writes it")

func parseKey(raw []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errKey
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKey, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errKey
	}
	return private, nil
}

// GenerateKey writes a new key to a file that must not exist yet and that only its owner can
// read.
func GenerateKey(path, name string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a feed key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("making a feed key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a feed key: %w", err)
	}
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("making a feed key: %w", err)
	}
	return NewKey(name, private)
}
