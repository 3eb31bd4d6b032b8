package ctl

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxFile bounds what is read as a certificate, key or request, in octets.
const maxFile = 1 << 20

// ReadSmall reads a certificate, key or request.
func ReadSmall(path string) ([]byte, error) { return ReadAtMost(path, maxFile) }

// ReadAtMost reads a regular file of at most this many octets.
func ReadAtMost(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s: want a regular file of at most %d MiB", path, limit>>20)
	}
	return os.ReadFile(path)
}

// ReadCertificate reads one certificate, PEM (the first in the file) or DER.
func ReadCertificate(path string) (*x509.Certificate, error) {
	raw, err := ReadSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			raw = block.Bytes
			break
		}
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate in %s: %w", path, err)
	}
	return certificate, nil
}

// ReadKey reads a private key in PEM without a passphrase: PKCS #8, SEC 1 or PKCS #1.
func ReadKey(path string) (crypto.Signer, error) {
	raw, err := ReadSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("reading the key in %s: no private key in PEM there", path)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // openssl writes EC PARAMETERS before the key
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, fmt.Errorf("reading the key in %s: it has a passphrase: want one without", path)
		}
		key, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("reading the key in %s: %w", path, err)
		}
		return key, nil
	}
}

func parseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("it cannot sign")
	}
	return signer, nil
}
