package issuance

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
)

func subjectCN(site string) string { return "OCSP responder " + site }

// subject returns the name of a responder. BR section 7.1.2.8 requires the naming of CA
// certificates (7.1.2.10.2) for it: countryName, organizationName and commonName, in that order,
// from the CA's own subject, or, if that lacks one, from its configuration.
func (a *Authority) subject(site string) (pkix.Name, error) {
	name := pkix.Name{CommonName: subjectCN(site)}
	if a.Issuer.Policy.Profile != db.ProfileBR {
		return name, nil
	}
	country, organization := certprofile.OrganizationOf(a.Certificate)
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

// checkName reports what is wrong with the names in the rules.
func (r Rules) checkName(report func(key, problem string)) {
	if r.Country != "" && !certprofile.IsCountry(r.Country) {
		report("country", fmt.Sprintf("%q: want two capital letters (ISO 3166-1)", r.Country))
	}
	if r.Organization != "" && !certprofile.IsName(r.Organization) {
		report("organization", fmt.Sprintf("%q: want 1 to %d characters", r.Organization, certprofile.MaxName))
	}
}
