package certprofile

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// allowedExtensions are the extensions of a responder certificate, and whether they are critical.
// nocheck is only for profile br, the CRL distribution point only for profile revocable.
var allowedExtensions = map[string]bool{
	"2.5.29.14":         false, // subjectKeyIdentifier
	"2.5.29.15":         true,  // keyUsage (BR section 7.1.2.8.4)
	"2.5.29.31":         false, // cRLDistributionPoints
	"2.5.29.35":         false, // authorityKeyIdentifier
	"2.5.29.37":         false, // extKeyUsage (BR section 7.1.2.8.4)
	OIDNoCheck.String(): false,
}

// SignatureAlgorithms are the algorithms that may sign a responder certificate: no SHA-1.
var SignatureAlgorithms = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
}

// Lint returns the faults of a responder certificate of the CA; nil: none. It checks the bytes as
// a client gets them and knows nothing of how they were made. now is when its use begins.
func Lint(der []byte, ca *x509.Certificate, policy db.Policy, now time.Time) []string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return []string{fmt.Sprintf("is no certificate: %v", err)}
	}
	l := &lint{}
	l.want(bytes.Equal(c.Raw, der), "is followed by other octets")
	l.want(c.Version == 3, "version is %d, not 3", c.Version)
	l.want(c.SerialNumber.Sign() > 0 && len(db.SerialFromMagnitude(c.SerialNumber.Bytes(), false)) == SerialLen,
		"serial is not of %d octets and positive", SerialLen)
	l.want(bytes.Equal(c.RawIssuer, ca.RawSubject), "issuer is not, octet for octet, the CA's subject (RFC 6960 section 4.2.2.2)")
	l.want(ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil, "signature is not the CA's")
	l.want(slices.Contains(SignatureAlgorithms, c.SignatureAlgorithm), "is signed with %s", c.SignatureAlgorithm)
	l.subject(c, ca, policy.Profile)
	if err := CheckKey(c.PublicKey); err != nil {
		l.want(false, "public key: %v", err)
	}
	l.want(!bytes.Equal(c.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo), "public key is the CA's own")
	l.validity(c, ca, policy.Profile, now)
	l.extensions(c, ca, policy)
	return l.faults
}

type lint struct{ faults []string }

func (l *lint) want(ok bool, fault string, args ...any) {
	if !ok {
		l.faults = append(l.faults, fmt.Sprintf(fault, args...))
	}
}

func (l *lint) validity(c, ca *x509.Certificate, profile db.Profile, now time.Time) {
	l.want(!c.NotBefore.After(now), "notBefore lies in the future")
	l.want(now.Sub(c.NotBefore) <= 24*time.Hour, "notBefore lies over a day before the signing (BR section 7.1.2.8)")
	l.want(c.NotAfter.After(now), "notAfter lies in the past")
	l.want(c.NotAfter.Sub(now) <= MaxLifeOf(profile), "lives longer than %s", MaxLifeOf(profile))
	l.want(!c.NotAfter.After(ca.NotAfter), "outlives the CA")
	l.want(!c.NotBefore.Before(ca.NotBefore), "begins before the CA")
}

func (l *lint) extensions(c, ca *x509.Certificate, policy db.Policy) {
	noCheck := false
	for _, e := range c.Extensions { // ParseCertificate refuses one that occurs twice
		oid := e.Id.String()
		critical, allowed := allowedExtensions[oid]
		l.want(allowed, "has extension %s", oid) // SAN, AIA, basicConstraints, ...
		l.want(!allowed || e.Critical == critical, "extension %s: critical is %t", oid, e.Critical)
		if e.Id.Equal(OIDNoCheck) {
			noCheck = true
			l.want(bytes.Equal(e.Value, NoCheckValue), "nocheck is %x, not NULL", e.Value)
		}
	}
	l.want(c.KeyUsage == x509.KeyUsageDigitalSignature, "keyUsage is not exactly digitalSignature")
	l.want(slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) && len(c.UnknownExtKeyUsage) == 0,
		"extKeyUsage is not exactly OCSPSigning")
	l.want(!c.IsCA && !c.BasicConstraintsValid, "has basicConstraints")
	ski, err := db.KeyID(c.RawSubjectPublicKeyInfo)
	l.want(err == nil && bytes.Equal(c.SubjectKeyId, ski[:]), "subjectKeyIdentifier is not the SHA-1 of the key")
	aki, err := AuthorityKeyID(ca)
	l.want(err == nil && bytes.Equal(c.AuthorityKeyId, aki), "authorityKeyIdentifier is not the CA's key identifier")
	if policy.Profile == db.ProfileBR {
		l.want(noCheck, "lacks nocheck, which profile br wants")
		l.want(len(c.CRLDistributionPoints) == 0 && !has(c, oidCRLDP), "has a CRL distribution point beside nocheck")
		return
	}
	l.want(!noCheck, "has nocheck, so that no client would ever learn of its revocation")
	want, err := crlDP(policy.CRLURL)
	l.want(err == nil && bytes.Equal(extension(c, oidCRLDP), want),
		"CRL distribution point is not exactly %q", policy.CRLURL)
}

var oidCRLDP = asn1.ObjectIdentifier{2, 5, 29, 31}

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) []byte {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value
		}
	}
	return nil
}

func has(c *x509.Certificate, oid asn1.ObjectIdentifier) bool { return extension(c, oid) != nil }

// DistributionPoint adds a DistributionPointName of one URI (RFC 5280 sections 4.2.1.13 and
// 5.2.5): the CRL's must equal the certificate's, octet for octet.
func DistributionPoint(b *cryptobyte.Builder, urls ...string) {
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	b.AddASN1(tag(0), func(b *cryptobyte.Builder) { // distributionPoint
		b.AddASN1(tag(0), func(b *cryptobyte.Builder) { // fullName
			for _, url := range urls {
				b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(url)) })
			}
		})
	})
}

// crlDP returns the value of cRLDistributionPoints; nil for no URL.
func crlDP(url string) ([]byte, error) {
	if url == "" {
		return nil, nil
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { DistributionPoint(b, url) })
	})
	return b.Bytes()
}

// subject checks the subject of c: one commonName, with profile br after the CA's country and
// organization.
func (l *lint) subject(c, ca *x509.Certificate, profile db.Profile) {
	var names []string
	var rdns pkix.RDNSequence
	rest, err := asn1.Unmarshal(c.RawSubject, &rdns)
	l.want(err == nil && len(rest) == 0, "subject is no Name")
	for _, rdn := range rdns {
		l.want(len(rdn) == 1, "subject %q has a relative name of %d parts (BR section 7.1.4.1)", c.Subject, len(rdn))
		for _, n := range rdn {
			names = append(names, n.Type.String())
		}
	}
	l.want(IsName(c.Subject.CommonName), "subject %q has no commonName of 1 to %d characters", c.Subject, MaxName)
	if profile != db.ProfileBR {
		l.want(slices.Equal(names, []string{oidCommonName.String()}), "subject %q is not one commonName", c.Subject)
		return
	}
	if !slices.Equal(names, []string{oidCountry.String(), oidOrganization.String(), oidCommonName.String()}) {
		l.want(false, "subject %q is not one countryName, organizationName and commonName (BR sections 7.1.2.8, 7.1.2.10.2)", c.Subject)
		return
	}
	country, organization := OrganizationOf(ca)
	l.want(IsCountry(c.Subject.Country[0]) && (country == "" || c.Subject.Country[0] == country), "countryName %q is not the CA's", c.Subject.Country[0])
	l.want(IsName(c.Subject.Organization[0]) && (organization == "" || c.Subject.Organization[0] == organization), "organizationName %q is not the CA's", c.Subject.Organization[0])
}
