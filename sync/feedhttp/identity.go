package feedhttp

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"ocspfleet/sync/feed"
)

// Pin is the SHA-256 of a TLS key's SubjectPublicKeyInfo. Master and sites identify each other
// only by it. There is no third PKI.
type Pin [32]byte

// String returns the pin in lower-case hex.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// ParsePin reads what String wrote.
func ParsePin(text string) (Pin, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(Pin{}) {
		return Pin{}, fmt.Errorf("pin %q: want the 64 hex digits of a SHA-256", text)
	}
	return Pin(raw), nil
}

// Identity is a TLS key with a certificate made in memory: only the pin counts, the certificate
// just carries the key.
type Identity struct {
	Pin         Pin
	certificate tls.Certificate
}

// LoadIdentity reads a TLS key from a file of the same form as a feed key's.
func LoadIdentity(path string) (*Identity, error) {
	private, err := feed.LoadPrivate(path)
	if err != nil {
		return nil, err
	}
	return NewIdentity(private)
}

// NewIdentity makes the certificate of a key.
func NewIdentity(private ed25519.PrivateKey) (*Identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 4.1.2.5: no end
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), crypto.Signer(private))
	if err != nil {
		return nil, fmt.Errorf("making a certificate for the TLS key: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making a certificate for the TLS key: %w", err)
	}
	return &Identity{Pin: pinOf(leaf), certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}}, nil
}

func pinOf(c *x509.Certificate) Pin { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// ErrPin says that the other side's TLS key is not the pinned one.
var ErrPin = errors.New("the TLS key is not pinned here")

// ErrOtherKey says that the source has another key than the one pinned for it. It is an ErrPin,
// too.
var ErrOtherKey = fmt.Errorf("%w: it is the source's", ErrPin)

// PeerPin returns the pin of the other side's key. TLS 1.3 has proven its possession.
func PeerPin(state *tls.ConnectionState) (Pin, bool) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return Pin{}, false
	}
	return pinOf(state.PeerCertificates[0]), true
}

// ServerTLS admits the sites of the access list, and the denied ones, which get an answer that
// says so. There are no session tickets: the pin is checked in each handshake, and by the
// handler in each request.
func (id *Identity) ServerTLS(access *AccessList) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.certificate}, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			pin, _ := PeerPin(&state)
			if !access.Knows(pin) {
				return fmt.Errorf("%w: %s", ErrPin, pin)
			}
			return nil
		},
	}
}

// ClientTLS connects only to the holder of one key, under any host name.
func (id *Identity) ClientTLS(server Pin) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.certificate}, NextProtos: []string{"h2", "http/1.1"},
		InsecureSkipVerify:     true, // no names and no chains: VerifyConnection checks the one key
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if pin, _ := PeerPin(&state); pin != server {
				return fmt.Errorf("%w: %s, want %s", ErrOtherKey, pin, server)
			}
			return nil
		},
	}
}
