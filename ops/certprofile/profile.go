package certprofile

import (
	"crypto/x509"
	"encoding/asn1"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"ocspfleet/db"
)

const (
	// DefaultLife is how long a responder certificate lives. It is short, since it bounds the
	// false answers of a site with an attacker at clients that never ask for the status of a
	// responder.
	DefaultLife = 7 * 24 * time.Hour
	// MaxLife is the longest life that is issued.
	MaxLife = 90 * 24 * time.Hour
	// SerialLen gives 127 random bits, of which BR section 7.1 requires 64, and a fixed length of
	// the DER.
	SerialLen = 16
)

// OIDNoCheck and NoCheckValue are the extension that tells clients not to ask for the status of
// the responder's own certificate.
var (
	OIDNoCheck   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	NoCheckValue = []byte{0x05, 0x00} // NULL (RFC 6960 section 4.2.2.2.1)
)

// MaxLifeOf bounds a life. With nocheck no client learns of a revocation: only the life bounds the
// harm (RFC 6960 section 4.2.2.2.1).
func MaxLifeOf(profile db.Profile) time.Duration {
	if profile == db.ProfileBR {
		return DefaultLife
	}
	return MaxLife
}

// AuthorityKeyID returns the CA's own key identifier, or computes it.
func AuthorityKeyID(ca *x509.Certificate) ([]byte, error) {
	if len(ca.SubjectKeyId) > 0 {
		return ca.SubjectKeyId, nil
	}
	id, err := db.KeyID(ca.RawSubjectPublicKeyInfo)
	return id[:], err
}

// MaxName is ub-common-name and ub-organization-name, in characters (RFC 5280 appendix A.1).
const MaxName = 64

var (
	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
)

var country = regexp.MustCompile(`^[A-Z]{2}$`)

// IsCountry says whether a text has the form of an ISO 3166-1 code.
func IsCountry(text string) bool { return country.MatchString(text) }

// IsName says whether a text is valid in a subject.
func IsName(text string) bool {
	return text != "" && utf8.ValidString(text) && utf8.RuneCountInString(text) <= MaxName && !hasControl(text)
}

func hasControl(text string) bool {
	return slices.ContainsFunc([]rune(text), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

// OrganizationOf returns the names in a CA's subject; empty if one is missing, or has another
// form.
func OrganizationOf(ca *x509.Certificate) (country, organization string) {
	if names := ca.Subject.Country; len(names) > 0 && IsCountry(names[0]) {
		country = names[0]
	}
	if names := ca.Subject.Organization; len(names) > 0 && IsName(names[0]) {
		organization = names[0]
	}
	return country, organization
}
