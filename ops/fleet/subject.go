package fleet

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"unicode/utf8"

	"ocspfleet/db"
)

// maxName is ub-common-name and ub-organization-name, in characters (RFC 5280 appendix A.1).
const maxName = 64

var (
	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// isCountry is the form of an ISO 3166-1 code.
var isCountry = regexp.MustCompile(`^[A-Z]{2}$`).MatchString

// isName says whether a text can stand in a subject.
func isName(text string) bool {
	return text != "" && utf8.ValidString(text) && utf8.RuneCountInString(text) <= maxName && !hasControl(text)
}

func hasControl(text string) bool {
	return slices.ContainsFunc([]rune(text), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

func subjectCN(site string) string { return "OCSP responder " + site }

// subject names a responder. BR section 7.1.2.8 wants the naming of CA certificates
// (7.1.2.10.2) for it: countryName, organizationName and commonName, in that order, of
// the CA as its own subject has them, or, where that lacks one, its configuration.
func (a *Authority) subject(site string) (pkix.Name, error) {
	name := pkix.Name{CommonName: subjectCN(site)}
	if a.Issuer.Policy.Profile != db.ProfileBR {
		return name, nil
	}
	country, organization := organizationOf(a.Certificate)
	if country == "" {
		country = a.Rules.Country
	}
	if organization == "" {
		organization = a.Rules.Organization
	}
	switch {
	case country == "":
		return name, errors.New("the CA's certificate names no countryName, which profile br wants (BR section 7.1.2.8): set country in the CA's own configuration")
	case organization == "":
		return name, errors.New("the CA's certificate names no organizationName, which profile br wants (BR section 7.1.2.8): set organization in the CA's own configuration")
	}
	name.Country, name.Organization = []string{country}, []string{organization}
	return name, nil
}

// organizationOf is how a CA names itself; empty what it does not name, or in another form.
func organizationOf(ca *x509.Certificate) (country, organization string) {
	if names := ca.Subject.Country; len(names) > 0 && isCountry(names[0]) {
		country = names[0]
	}
	if names := ca.Subject.Organization; len(names) > 0 && isName(names[0]) {
		organization = names[0]
	}
	return country, organization
}

// subject judges the subject of c: one commonName, with profile br behind the CA's country
// and organization.
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
	l.want(isName(c.Subject.CommonName), "subject %q has no commonName of 1 to %d characters", c.Subject, maxName)
	if profile != db.ProfileBR {
		l.want(slices.Equal(names, []string{oidCommonName.String()}), "subject %q is not one commonName", c.Subject)
		return
	}
	if !slices.Equal(names, []string{oidCountry.String(), oidOrganization.String(), oidCommonName.String()}) {
		l.want(false, "subject %q is not one countryName, organizationName and commonName (BR sections 7.1.2.8, 7.1.2.10.2)", c.Subject)
		return
	}
	country, organization := organizationOf(ca)
	l.want(isCountry(c.Subject.Country[0]) && (country == "" || c.Subject.Country[0] == country), "countryName %q is not the CA's", c.Subject.Country[0])
	l.want(isName(c.Subject.Organization[0]) && (organization == "" || c.Subject.Organization[0] == organization), "organizationName %q is not the CA's", c.Subject.Organization[0])
}

// checkName reports what is wrong with the names in the rules.
func (r Rules) checkName(report func(key, problem string)) {
	if r.Country != "" && !isCountry(r.Country) {
		report("country", fmt.Sprintf("%q: want two capital letters (ISO 3166-1)", r.Country))
	}
	if r.Organization != "" && !isName(r.Organization) {
		report("organization", fmt.Sprintf("%q: want 1 to %d characters", r.Organization, maxName))
	}
}
