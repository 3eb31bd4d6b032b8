package issuance

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/certprofile"
)

// Rules are what a CA agrees to sign. They come only from the configuration beside its key: the CA
// refuses a database or a bundle that differs, so that an attacker who writes there changes
// nothing.
type Rules struct {
	Profile db.Profile
	MaxLife time.Duration // of a responder certificate, and of a certificate request as a proof
	// CRLURL is the distribution point of the responder certificates, and of the CRL that covers
	// them. Empty: they name none.
	CRLURL string
	// AllCertificates says that the CA's CRLs are made here and cover all that it issued;
	// otherwise they cover the responder certificates, at CRLURL.
	AllCertificates bool
	// Forbidden are distribution points that other certificates of the CA name: an empty CRL for
	// one of them would take every revocation back.
	Forbidden []string
	// Country and Organization are for the subject of a responder certificate of profile br if the
	// CA's own subject has none.
	Country, Organization string
}

// Check reports what is wrong with the rules, by the keys of the configuration.
func (r Rules) Check(report func(key, problem string)) {
	switch {
	case r.Profile != db.ProfileRevocable && r.Profile != db.ProfileBR:
		report("profile", fmt.Sprintf("%q: want %s or %s", r.Profile, db.ProfileRevocable, db.ProfileBR))
	case r.MaxLife < minLife || r.MaxLife > certprofile.MaxLifeOf(r.Profile):
		report("max_life", fmt.Sprintf("%s: want %s to %s for profile %s", r.MaxLife, minLife, certprofile.MaxLifeOf(r.Profile), r.Profile))
	}
	r.checkName(report)
	if _, err := r.scope(); err != nil && r.CRLURL != "" {
		report("crl_url", err.Error())
	}
}

// sameURL treats URLs as equal in case of doubt: scheme and host in any case, with the default
// port or without, escaped or not.
func sameURL(a, b string) bool {
	return plainURL(a) == plainURL(b)
}

func plainURL(text string) string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return text
	}
	return strings.ToLower(u.Scheme) + "://" + strings.TrimSuffix(strings.ToLower(u.Host), ":80") + u.Path + "?" + u.RawQuery
}

// agree says where a policy, the master's or a bundle's, differs from the rules.
func (r Rules) agree(profile db.Profile, crlURL string) error {
	switch {
	case profile != r.Profile:
		return fmt.Errorf("its profile at the master is %q, in the CA's own configuration %q (profile)", profile, r.Profile)
	case crlURL != r.CRLURL:
		return fmt.Errorf("its crl_url at the master is %q, in the CA's own configuration %q (crl_url)", crlURL, r.CRLURL)
	}
	return nil
}

// scope returns the distribution point that the CA's CRLs cover; empty: they cover all
// certificates.
func (r Rules) scope() (string, error) {
	switch {
	case r.AllCertificates:
		return "", nil
	case r.CRLURL == "":
		return "", errors.New("the CA's own configuration names no crl_url: it signs no CRL (crl_scope: all signs one of all its certificates)")
	case slices.ContainsFunc(r.Forbidden, func(other string) bool { return sameURL(r.CRLURL, other) }):
		return "", fmt.Errorf("%q stands in forbidden_urls: other certificates of the CA name it", r.CRLURL)
	}
	return r.CRLURL, nil
}
