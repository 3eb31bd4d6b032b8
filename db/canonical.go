package db

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

var ErrCanonical = errors.New("these are no canonical bytes")

// canonicalReader parses canonical bytes; the first fault is kept.
type canonicalReader struct {
	rest []byte
	bad  bool
}

func (r *canonicalReader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.rest) {
		r.bad = true
		return make([]byte, max(0, min(n, 64)))
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *canonicalReader) int32() int32 { return int32(binary.BigEndian.Uint32(r.take(4))) }

func (r *canonicalReader) bool() bool {
	b := r.take(1)[0]
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *canonicalReader) lp() []byte {
	n := r.int32()
	if r.bad || int(n) > len(r.rest) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *canonicalReader) text() string {
	b := r.lp()
	r.bad = r.bad || !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0
	return string(b)
}

func (r *canonicalReader) seconds() time.Duration { return time.Duration(r.int32()) * time.Second }

// ParseIssuer reads canonical bytes of an issuer row.
func ParseIssuer(b []byte) (Issuer, error) {
	r := &canonicalReader{rest: b}
	var i Issuer
	i.ID = IssuerID(r.int32())
	copy(i.Key[:], r.take(32))
	i.Name = r.text()
	i.Certificate = bytes.Clone(r.lp())
	for _, d := range []*time.Duration{&i.Policy.Validity, &i.Policy.Backdate, &i.Policy.MaxStaleness, &i.Policy.FreshForUnknown, &i.Policy.HTTPMaxAge, &i.Policy.Refresh} {
		*d = r.seconds()
	}
	i.Policy.NeverIssued, i.Policy.Profile, i.Policy.CRLURL = NeverIssued(r.text()), Profile(r.text()), r.text()
	i.Policy.ArchiveCutoff = r.bool()
	i.Policy.Version = int64(binary.BigEndian.Uint64(r.take(8)))
	if len(r.rest) > 0 { // without a CRL the bytes end here
		i.CRL = bytes.Clone(r.lp())
		r.bad = r.bad || len(i.CRL) == 0
	}
	if r.bad || len(r.rest) > 0 {
		return Issuer{}, fmt.Errorf("issuer row of %d octets: %w", len(b), ErrCanonical)
	}
	return i, nil
}

// ParseResponderCertificate reads canonical bytes of a responder_certificate row.
func ParseResponderCertificate(b []byte) (ResponderCertificate, error) {
	r := &canonicalReader{rest: b}
	var c ResponderCertificate
	copy(c.Fingerprint[:], r.take(32))
	c.IssuerID = IssuerID(r.int32())
	c.Serial = bytes.Clone(r.lp())
	c.Site = r.text()
	copy(c.KeyHash[:], r.take(32))
	c.DER = bytes.Clone(r.lp())
	if r.bad || len(r.rest) > 0 || c.Fingerprint != sha256.Sum256(c.DER) {
		return ResponderCertificate{}, fmt.Errorf("responder certificate row of %d octets: %w", len(b), ErrCanonical)
	}
	return c, nil
}
