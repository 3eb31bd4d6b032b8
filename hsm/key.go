package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"
)

// KeyKind is a kind of key that GenerateKey makes.
type KeyKind string

// The kinds. Ed25519 is not among them: crypto11 cannot use it, and few OCSP clients can.
const (
	P256    KeyKind = "p256" // about seven times the rate of RSA-2048, and shorter answers
	P384    KeyKind = "p384"
	RSA2048 KeyKind = "rsa2048"
	RSA3072 KeyKind = "rsa3072"
)

// ParseKeyKind reads a kind in any common spelling: p256, P-256, rsa-2048.
func ParseKeyKind(text string) (KeyKind, error) {
	plain := KeyKind(strings.ReplaceAll(strings.ToLower(text), "-", ""))
	if kinds := []KeyKind{P256, P384, RSA2048, RSA3072}; slices.Contains(kinds, plain) {
		return plain, nil
	}
	return "", fmt.Errorf("key kind %q: want p256, p384, rsa2048 or rsa3072", text)
}

// KeyInfo is one key pair of the token.
type KeyInfo struct {
	Label       string
	ID          []byte // CKA_ID
	Kind        KeyKind
	Public      crypto.PublicKey
	Fingerprint [32]byte // SHA-256 of the SubjectPublicKeyInfo DER, for comparison out of band
}

const maxLabelLen = 64 // octets; the shortest known limit of a module is 80

// GenerateKey makes a key pair in the token, private half sensitive and never extractable, for
// signing only, and returns its signer. A label in use is ErrDuplicate: PKCS#11 itself would
// make a second pair with the same label. A kind that the token refuses is ErrKind.
//
// The pair is made under a random CKA_ID, since its public key is not known before, and then
// renamed to the SHA-1 of that key (see nameOf). A token that does not allow renaming keeps the
// random one; keys are found either way.
func (t *Token) GenerateKey(kind KeyKind, label string) (crypto.Signer, error) {
	if label == "" || len(label) > maxLabelLen {
		return nil, fmt.Errorf("making a key in token %s: label %q: want 1 to %d octets", t.conf.Name(), label, maxLabelLen)
	}
	if only := t.conf.Parsed.Object; len(t.conf.Parsed.ID) > 0 || only != "" && only != label {
		return nil, fmt.Errorf("making key %q in token %s: the PKCS#11 URI names one other key by object or id, and this one would not be seen: take them out of token.uri", label, t.conf.Name())
	}
	key, err := once(t, t.times.generate, func(c *connection) (crypto.Signer, error) { return t.generate(c, kind, label) })
	if kindRefused(err) {
		err = fmt.Errorf("%w: %w", ErrKind, err)
	}
	if err != nil {
		return nil, fmt.Errorf("making key %q in token %s: %w", label, t.conf.Name(), err)
	}
	return t.Signer(key.Public())
}

// generateTries bounds the attempts when the module refuses a pair for no reason of ours.
const generateTries = 5

func (t *Token) generate(c *connection, kind KeyKind, label string) (key crypto.Signer, err error) {
	err = t.inSession(func(p *pkcs11.Ctx, session pkcs11.SessionHandle) error {
		key, err = t.generateBeside(p, session, c, kind, label)
		return err
	})
	return key, err
}

// generateBeside makes the pair through the connection; the session is for what crypto11 lacks.
func (t *Token) generateBeside(p *pkcs11.Ctx, session pkcs11.SessionHandle, c *connection, kind KeyKind, label string) (crypto.Signer, error) {
	taken, err := objects(p, session, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	if err != nil {
		return nil, fmt.Errorf("looking for the label: %w", err)
	}
	if len(taken) > 0 {
		return nil, fmt.Errorf("%w: choose another label", ErrDuplicate)
	}
	if err := t.conf.Writable(); err != nil {
		return nil, err
	}
	var id []byte
	var key crypto.Signer
	for try := 1; ; try++ {
		id = make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		if key, err = c.generate(kind, id, label); err == nil {
			break
		}
		// SoftHSM refuses 1 or 2 pairs in 100 with CKR_GENERAL_ERROR while
		// another thread or process signs with a key of the same token.
		if try == generateTries || !errors.Is(err, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)) {
			return nil, err
		}
		t.logger.Warn("making a key failed, once more", slog.String("label", label), slog.Any("error", err))
		if err := destroy(p, session, id); err != nil {
			return nil, fmt.Errorf("removing half a key after %w", err)
		}
	}
	if err := t.conf.DiskSpace(); err != nil { // the disk has filled up: the pair may be in memory only
		return nil, errors.Join(err, destroy(p, session, id))
	}
	if err := rename(p, session, id, key.Public()); err != nil {
		t.logger.Info("key keeps its random id", slog.String("label", label), slog.Any("reason", err))
	}
	return key, nil
}

// generate makes the pair. It forbids each unwanted use explicitly; a default may allow it.
func (c *connection) generate(kind KeyKind, id []byte, label string) (crypto.Signer, error) {
	public, err := crypto11.NewAttributeSetWithIDAndLabel(id, []byte(label))
	if err != nil {
		return nil, err
	}
	private := public.Copy()
	for _, a := range []struct {
		name  crypto11.AttributeType
		value bool
	}{
		{crypto11.CkaPrivate, true},
		{crypto11.CkaSensitive, true},
		{crypto11.CkaExtractable, false},
		{crypto11.CkaSign, true},
		{crypto11.CkaDecrypt, false},
		{crypto11.CkaUnwrap, false},
	} {
		if err := private.Set(a.name, a.value); err != nil {
			return nil, err
		}
	}
	switch kind {
	case P256:
		return c.ctx.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P256())
	case P384:
		return c.ctx.GenerateECDSAKeyPairWithAttributes(public, private, elliptic.P384())
	case RSA2048, RSA3072:
		if err := public.Set(crypto11.CkaEncrypt, false); err != nil {
			return nil, err
		}
		bits := 2048
		if kind == RSA3072 {
			bits = 3072
		}
		return c.ctx.GenerateRSAKeyPairWithAttributes(public, private, bits)
	}
	return nil, fmt.Errorf("key kind %q: %w", kind, errUnsupported)
}

// objects finds keys, public and private, by one attribute.
func objects(p *pkcs11.Ctx, session pkcs11.SessionHandle, attribute *pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	var all []pkcs11.ObjectHandle
	for _, kind := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		found, err := search(p, session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, kind), attribute)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// search finds all objects with these attributes.
func search(p *pkcs11.Ctx, session pkcs11.SessionHandle, template ...*pkcs11.Attribute) (all []pkcs11.ObjectHandle, err error) {
	if err := p.FindObjectsInit(session, template); err != nil {
		return nil, err
	}
	for {
		some, _, err := p.FindObjects(session, 64)
		if err != nil {
			return nil, errors.Join(err, p.FindObjectsFinal(session))
		}
		if len(some) == 0 {
			return all, p.FindObjectsFinal(session)
		}
		all = append(all, some...)
	}
}

// destroy removes the remains of a failed generation.
func destroy(p *pkcs11.Ctx, session pkcs11.SessionHandle, id []byte) error {
	halves, err := objects(p, session, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return err
	}
	for _, half := range halves {
		if err := p.DestroyObject(session, half); err != nil {
			return err
		}
	}
	return nil
}

// rename sets the CKA_ID of both halves of a new pair.
func rename(p *pkcs11.Ctx, session pkcs11.SessionHandle, id []byte, pub crypto.PublicKey) error {
	_, name, err := nameOf(pub)
	if err != nil {
		return err
	}
	halves, err := objects(p, session, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return fmt.Errorf("finding the new key: %w", err)
	}
	for _, half := range halves {
		if err := p.SetAttributeValue(session, half, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, name)}); err != nil {
			return fmt.Errorf("setting the id: %w", err)
		}
	}
	return nil
}

// once is within without a second try, for calls that must not be repeated.
func once[T any](t *Token, limit time.Duration, call func(*connection) (T, error)) (T, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	c, value, err := attempt(t, timer.C, call)
	if err != nil && c != nil && !errors.Is(err, ErrTimeout) && classify(err) == classRebuild {
		t.lose(c, err)
	}
	return value, err
}

// Keys lists the key pairs that can be used here: RSA, P-256 and P-384, with both halves in the
// token. Oddities lists the others.
func (t *Token) Keys() ([]KeyInfo, error) {
	keys, err := within(t, t.times.generate, func(c *connection) ([]KeyInfo, error) { return c.list() })
	if err != nil {
		return nil, fmt.Errorf("listing the keys of token %s: %w", t.conf.Name(), err)
	}
	return keys, nil
}

func (c *connection) list() ([]KeyInfo, error) {
	found, err := c.pairs(crypto11.CkaKeyType, pkcs11.CKK_RSA)
	if err != nil {
		return nil, err
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		params, err := curveParams(curve)
		if err != nil {
			return nil, err
		}
		more, err := c.pairs(crypto11.CkaEcParams, params)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	keys := make([]KeyInfo, 0, len(found))
	for _, key := range found {
		if c.eachTime(key) {
			continue
		}
		info, err := c.describe(key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, info)
	}
	slices.SortFunc(keys, func(a, b KeyInfo) int { return strings.Compare(a.Label, b.Label) })
	return keys, nil
}

func (c *connection) describe(key crypto11.Signer) (KeyInfo, error) {
	name, _, err := nameOf(key.Public())
	if err != nil {
		return KeyInfo{}, err
	}
	info := KeyInfo{Kind: kindOf(key.Public()), Public: key.Public(), Fingerprint: name}
	values, err := c.ctx.GetAttributes(key, []crypto11.AttributeType{crypto11.CkaLabel, crypto11.CkaId})
	if err != nil {
		return KeyInfo{}, fmt.Errorf("reading label and id of key %s: %w", name, err)
	}
	if label := values[crypto11.CkaLabel]; label != nil {
		info.Label = string(label.Value)
	}
	if id := values[crypto11.CkaId]; id != nil {
		info.ID = id.Value
	}
	return info, nil
}

func kindOf(pub crypto.PublicKey) KeyKind {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return KeyKind(fmt.Sprintf("p%d", pub.Curve.Params().BitSize))
	case *rsa.PublicKey:
		return KeyKind(fmt.Sprintf("rsa%d", pub.N.BitLen()))
	}
	return ""
}

// siteName fits a DNS label list, a file name and a commonName (ub-common-name, RFC 5280 appendix A.1).
var siteName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CSR returns a PKCS#10 request (RFC 2986) in PEM: commonName = site, signed by the key, which
// proves possession. The CA decides on all other content of the certificate, so the request has
// nothing else.
func CSR(key crypto.Signer, site string) ([]byte, error) {
	if !siteName.MatchString(site) {
		return nil, fmt.Errorf("making a certificate request: site %q: want 1 to 64 letters, digits, dots, dashes or underscores, a letter or digit first", site)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: site}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request for %q: %w", site, err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("checking the certificate request for %q: %w", site, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
