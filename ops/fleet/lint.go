package fleet

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
)

// allowedExtensions are those that a responder certificate has, and whether
// critical. nocheck stands for profile br alone.
var allowedExtensions = map[string]bool{
	"2.5.29.14":         false, // subjectKeyIdentifier
	"2.5.29.15":         true,  // keyUsage (BR section 7.1.2.8.4)
	"2.5.29.35":         false, // authorityKeyIdentifier
	"2.5.29.37":         false, // extKeyUsage (BR section 7.1.2.8.4)
	oidNoCheck.String(): false,
}

// signatureAlgorithms are those that a responder certificate may be signed
// with: no SHA-1.
var signatureAlgorithms = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
}

// Lint says what is wrong with a responder certificate of the CA; nil when it is
// as it must be. It looks at the bytes as a client gets them and knows nothing
// of how they were made.
func Lint(der []byte, ca *x509.Certificate, profile db.Profile, now time.Time) []string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return []string{fmt.Sprintf("is no certificate: %v", err)}
	}
	l := &lint{}
	l.want(bytes.Equal(c.Raw, der), "is followed by other octets")
	l.want(c.Version == 3, "version is %d, not 3", c.Version)
	l.want(c.SerialNumber.Sign() > 0 && len(db.SerialFromMagnitude(c.SerialNumber.Bytes(), false)) == serialLen,
		"serial is not of %d octets and positive", serialLen)
	l.want(bytes.Equal(c.RawIssuer, ca.RawSubject), "issuer is not, octet for octet, the CA's subject (RFC 6960 section 4.2.2.2)")
	l.want(ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil, "signature is not the CA's")
	l.want(slices.Contains(signatureAlgorithms, c.SignatureAlgorithm), "is signed with %s", c.SignatureAlgorithm)
	cn := c.Subject.CommonName
	l.want(len(c.Subject.Names) == 1 && cn != "" && len(cn) <= maxCommonName && !strings.Contains(cn, "\x00"),
		"subject %q is not one commonName of 1 to %d octets", c.Subject, maxCommonName)
	if err := checkKey(c.PublicKey); err != nil {
		l.want(false, "public key: %v", err)
	}
	l.want(!bytes.Equal(c.RawSubjectPublicKeyInfo, ca.RawSubjectPublicKeyInfo), "public key is the CA's own")
	l.validity(c, ca, now)
	l.extensions(c, ca, profile)
	return l.faults
}

type lint struct{ faults []string }

func (l *lint) want(ok bool, fault string, args ...any) {
	if !ok {
		l.faults = append(l.faults, fmt.Sprintf(fault, args...))
	}
}

func (l *lint) validity(c, ca *x509.Certificate, now time.Time) {
	l.want(!c.NotBefore.After(now), "notBefore lies in the future")
	l.want(now.Sub(c.NotBefore) <= 24*time.Hour, "notBefore lies over a day before the signing (BR section 7.1.2.8)")
	l.want(c.NotAfter.After(now), "notAfter lies in the past")
	l.want(c.NotAfter.Sub(now) <= MaxLife, "lives longer than %s", MaxLife)
	l.want(!c.NotAfter.After(ca.NotAfter), "outlives the CA")
	l.want(!c.NotBefore.Before(ca.NotBefore), "begins before the CA")
}

func (l *lint) extensions(c, ca *x509.Certificate, profile db.Profile) {
	noCheck := false
	for _, e := range c.Extensions { // ParseCertificate refuses one that stands twice
		oid := e.Id.String()
		critical, allowed := allowedExtensions[oid]
		l.want(allowed, "has extension %s", oid) // SAN, AIA, CRL distribution points, basicConstraints, ...
		l.want(!allowed || e.Critical == critical, "extension %s: critical is %t", oid, e.Critical)
		if e.Id.Equal(oidNoCheck) {
			noCheck = true
			l.want(bytes.Equal(e.Value, noCheckValue), "nocheck is %x, not NULL", e.Value)
		}
	}
	l.want(c.KeyUsage == x509.KeyUsageDigitalSignature, "keyUsage is not exactly digitalSignature")
	l.want(slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) && len(c.UnknownExtKeyUsage) == 0,
		"extKeyUsage is not exactly OCSPSigning")
	l.want(!c.IsCA && !c.BasicConstraintsValid, "has basicConstraints")
	ski, err := keyIDOf(c.RawSubjectPublicKeyInfo)
	l.want(err == nil && bytes.Equal(c.SubjectKeyId, ski), "subjectKeyIdentifier is not the SHA-1 of the key")
	aki, err := authorityKeyID(ca)
	l.want(err == nil && bytes.Equal(c.AuthorityKeyId, aki), "authorityKeyIdentifier is not the CA's key identifier")
	if profile == db.ProfileBR {
		l.want(noCheck, "lacks nocheck, which profile br wants")
	} else {
		l.want(!noCheck, "has nocheck, so that no client would ever learn of its revocation")
	}
}
