package signer

import (
	"crypto"
	_ "crypto/sha1" // RFC 9919 section 3.1.1: the CertIDs of old clients
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/signer/wire"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Pin names one issuer that this site serves, by one of its certificates.
// Exactly one field is set.
type Pin struct {
	Certificate []byte   // DER
	Fingerprint [32]byte // SHA-256 of the DER of the certificate in the issuer's row
}

// String names the pin in messages until its issuer is known.
func (p Pin) String() string {
	if p.Certificate != nil {
		p.Fingerprint = sha256.Sum256(p.Certificate)
	}
	return "issuer certificate " + hex.EncodeToString(p.Fingerprint[:8])
}

// authority is a pinned CA: one key under one name.
type authority struct {
	cert *x509.Certificate
	key  [32]byte // db.Issuer.Key
	ids  []string // its names in CertIDs, one per hash algorithm
}

// certIDHashes are the hashes of CertIDs that are answered (RFC 9919 section 3.1.1).
var certIDHashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

// newAuthority reads a CA certificate.
func newAuthority(der []byte) (*authority, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing issuer certificate: %w", err)
	}
	_, bits, err := publicKeyParts(cert)
	if err != nil {
		return nil, err
	}
	a := &authority{cert: cert, key: db.IssuerKey(cert)}
	for _, hash := range certIDHashes {
		id := wire.CertID{Hash: hash, NameHash: sum(hash, cert.RawSubject), KeyHash: sum(hash, bits)}
		a.ids = append(a.ids, string(appendIssuerID(nil, &id)))
	}
	return a, nil
}

// appendIssuerID appends the key under which a CertID finds its issuer. It has both the name
// hash and the key hash: two CAs with one name, or with one key, are never mixed up.
func appendIssuerID(buf []byte, id *wire.CertID) []byte {
	// The length keeps hashes of a wrong length, which would move the border between the two,
	// from matching.
	buf = append(buf, byte(id.Hash), byte(len(id.NameHash)))
	buf = append(buf, id.NameHash...)
	return append(buf, id.KeyHash...)
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// notBefore is where an issuer's archive begins (RFC 6960 section 4.4.4, ETSI EN 319 411-2):
// the notBefore of the certificate in its row, which every site has, not of the pinned one.
// Zero where it cannot be read.
func notBefore(der []byte) time.Time {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return time.Time{}
	}
	return cert.NotBefore
}

// publicKeyParts returns the AlgorithmIdentifier of the key, and the content of
// the subjectPublicKey BIT STRING, without the count of unused bits: what
// issuerKeyHash and KeyHash hash (RFC 6960 sections 4.1.1 and 4.2.1).
func publicKeyParts(cert *x509.Certificate) (algorithm, bits []byte, err error) {
	in := cryptobyte.String(cert.RawSubjectPublicKeyInfo)
	var spki, alg cryptobyte.String
	if !in.ReadASN1(&spki, asn1.SEQUENCE) || !spki.ReadASN1Element(&alg, asn1.SEQUENCE) || !spki.ReadASN1BitStringAsBytes(&bits) {
		return nil, nil, errors.New("reading subjectPublicKey: malformed")
	}
	return alg, bits, nil
}

// site is the issuers that this site answers for, with their signers. It is replaced whole; a
// loaded pointer stays valid for the request.
type site struct {
	byID   map[string]*served // by authority.ids
	served []*served          // one per pin, in their order
}

// served is one pinned issuer with its state in the copy and in the token. It is not changed
// once it is part of a site.
type served struct {
	name      string // the staff's name, or the pin while the copy has no row
	present   bool   // the copy has its row
	id        db.IssuerID
	policy    policy
	authority *authority
	// identities are the valid signers, one per signature algorithm, the default first; empty:
	// no answer can be signed.
	identities []*Identity
	reasons    []string // why certificates whose key is in the token are not used
}

// signer returns the identity that signs the answer to a request, or nil. RFC 6960 section
// 4.4.7.2: the first algorithm that the client prefers and that we have a key for (1); without
// one our default, which prefer puts first. A client cannot get a weak algorithm (section
// 5.1.2): wire.SignatureAlgorithm has none.
func (s *served) signer(preferred []wire.PreferredSigAlg, now time.Time) *Identity {
	for _, wish := range preferred {
		for _, id := range s.identities {
			if wire.SameAlgorithm(wish.Signature, id.algorithm) && wish.FitsKey(id.keyAlg) && id.mayServe(now) {
				return id
			}
		}
	}
	for _, id := range s.identities {
		if id.mayServe(now) {
			return id
		}
	}
	return nil
}

// resolve returns the one issuer of all CertIDs asked. It returns nil when one of them belongs
// to an issuer that is not served, or when they belong to several: one answer has one signer,
// and a delegated certificate is valid for one CA key only.
func (s *site) resolve(certIDs []wire.CertID, buf []byte) (*served, []byte) {
	var issuer *served
	for i := range certIDs {
		buf = appendIssuerID(buf[:0], &certIDs[i])
		found := s.byID[string(buf)]
		if found == nil || (issuer != nil && found != issuer) {
			return nil, buf
		}
		issuer = found
	}
	return issuer, buf
}

// Issuer returns the copy's row of a pinned issuer, by its name, and the pinned certificate.
func (r *Responder) Issuer(name string) (row db.Issuer, pinned *x509.Certificate, ok bool) {
	for _, s := range r.site.Load().served {
		if !s.present || s.name != name {
			continue
		}
		for _, row := range r.source.Issuers() {
			if row.ID == s.id {
				return row, s.authority.cert, true
			}
		}
	}
	return db.Issuer{}, nil, false
}

// pinned is a pin and, once it is known, its issuer.
type pinned struct {
	Pin
	authority *authority
}

// match finds the row of a pin by the hash of its key and name. For a pinned fingerprint that
// hash is computed here from the certificate.
func (p *pinned) match(rows []db.Issuer) (db.Issuer, error) {
	for _, row := range rows {
		if p.authority == nil && sha256.Sum256(row.Certificate) == p.Fingerprint {
			a, err := newAuthority(row.Certificate)
			if err != nil {
				return row, fmt.Errorf("reading issuer %q: %w", row.Name, err)
			}
			if a.key != row.Key {
				return row, fmt.Errorf("reading issuer %q: its key hash is not that of its certificate", row.Name)
			}
			p.authority = a
		}
		if p.authority != nil && p.authority.key == row.Key {
			return row, nil
		}
	}
	return db.Issuer{}, errors.New("the copy has no such issuer")
}
