package issuance

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
)

// BR 7.1.2.8 wants the naming of 7.1.2.10.2: every responder certificate of profile br
// was misissued, with a commonName alone.
func TestBR_7_1_2_8_SubjectHasCountryOrganizationAndCommonName(t *testing.T) {
	const cn = "OCSP responder site-a"
	for name, c := range map[string]struct {
		ca, rules pkix.Name // countries and organizations
		want      string
		refused   string
	}{
		"from the CA's subject":       {pkix.Name{Country: []string{"AT"}, Organization: []string{"CA GmbH"}}, pkix.Name{}, "CN=" + cn + ",O=CA GmbH,C=AT", ""},
		"the configuration is second": {pkix.Name{Country: []string{"AT"}, Organization: []string{"CA GmbH"}}, pkix.Name{Country: []string{"DE"}, Organization: []string{"Other"}}, "CN=" + cn + ",O=CA GmbH,C=AT", ""},
		"from the configuration":      {pkix.Name{}, pkix.Name{Country: []string{"DE"}, Organization: []string{"CA Verein"}}, "CN=" + cn + ",O=CA Verein,C=DE", ""},
		"from both":                   {pkix.Name{Organization: []string{"CA GmbH"}}, pkix.Name{Country: []string{"DE"}}, "CN=" + cn + ",O=CA GmbH,C=DE", ""},
		"no country":                  {pkix.Name{Organization: []string{"CA GmbH"}}, pkix.Name{}, "", "set country in the CA's own configuration"},
		"no organization":             {pkix.Name{Country: []string{"AT"}}, pkix.Name{}, "", "set organization in the CA's own configuration"},
		"no country's code":           {pkix.Name{Country: []string{"Austria"}, Organization: []string{"CA GmbH"}}, pkix.Name{}, "", "set country"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newCA(t, p256(), db.ProfileBR, func(ca *x509.Certificate) {
				ca.Subject.Country, ca.Subject.Organization = c.ca.Country, c.ca.Organization
			})
			a.Rules.Country, a.Rules.Organization = strings.Join(c.rules.Country, ""), strings.Join(c.rules.Organization, "")
			r := request(t, p256())
			if c.refused != "" {
				for _, err := range []error{
					func() error { _, err := a.Template(r, certprofile.DefaultLife, now, rand.Reader); return err }(),
					func() error { _, err := a.Rehearse(r, certprofile.DefaultLife, now, rand.Reader); return err }(),
				} {
					if err == nil || !strings.Contains(err.Error(), c.refused) {
						t.Errorf("want it refused with %q, got %v", c.refused, err)
					}
				}
				return
			}
			got := issue(t, a, r)
			zlinted(t, got, db.ProfileBR)
			if got.Subject.String() != c.want {
				t.Errorf("subject %s, want %s", got.Subject, c.want)
			}
			if site, _, err := a.verify(got.Raw); site != "site-a" || err != nil { // its renewal finds the site in it
				t.Errorf("the certificate names site %q, %v", site, err)
			}
		})
	}
}

// What a certificate says is judged by its octets, whoever made it.
func TestLintOfABRSubject(t *testing.T) {
	a := newCA(t, p256(), db.ProfileBR, nil)
	r := request(t, p256())
	for name, subject := range map[string]pkix.Name{
		"commonName alone":     {CommonName: "OCSP responder site-a"},
		"another country":      {Country: []string{"DE"}, Organization: []string{"Test"}, CommonName: "OCSP responder site-a"},
		"another organization": {Country: []string{"AT"}, Organization: []string{"Rest"}, CommonName: "OCSP responder site-a"},
		"a unit":               {Country: []string{"AT"}, Organization: []string{"Test"}, OrganizationalUnit: []string{"x"}, CommonName: "OCSP responder site-a"},
		"two organizations":    {Country: []string{"AT"}, Organization: []string{"Test", "Test"}, CommonName: "OCSP responder site-a"},
		"no commonName":        {Country: []string{"AT"}, Organization: []string{"Test"}},
	} {
		template, err := a.Template(r, certprofile.DefaultLife, now, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.Subject = subject
		der := must(x509.CreateCertificate(rand.Reader, template, a.Certificate, r.PublicKey, a.key))
		if faults := certprofile.Lint(der, a.Certificate, a.Issuer.Policy, now); !slices.ContainsFunc(faults, func(f string) bool {
			return strings.HasPrefix(f, "subject") || strings.HasPrefix(f, "countryName") || strings.HasPrefix(f, "organizationName")
		}) {
			t.Errorf("%s: faults %q", name, faults)
		}
	}
}

func TestRulesForNames(t *testing.T) {
	for name, c := range map[string]struct {
		rules Rules
		key   string
	}{
		"none":               {Rules{}, ""},
		"both":               {Rules{Country: "AT", Organization: "Grüne CA"}, ""},
		"small letters":      {Rules{Country: "at"}, "country"},
		"a name":             {Rules{Country: "AUT"}, "country"},
		"too long":           {Rules{Organization: strings.Repeat("ä", 65)}, "organization"},
		"control characters": {Rules{Organization: "a\x1b[2J"}, "organization"},
	} {
		c.rules.Profile, c.rules.MaxLife = db.ProfileBR, certprofile.DefaultLife
		var keys []string
		c.rules.Check(func(key, _ string) { keys = append(keys, key) })
		if strings.Join(keys, " ") != c.key {
			t.Errorf("%s: faults at %q, want %q", name, keys, c.key)
		}
	}
}
