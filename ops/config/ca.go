package config

import (
	"fmt"
	"net/url"
	"time"
)

// CA is one CA: where its key is, and what it agrees to sign. These limits are the CA's own: a
// request of the master or of a bundle beyond them is refused.
type CA struct {
	// Certificate is the CA's certificate, PEM or DER. Empty: the one at the master is used;
	// ca-sign needs it here.
	Certificate string `yaml:"certificate,omitempty"`
	// Token is the token with the CA's key, which is found by the certificate. Instead of Key.
	Token Token `yaml:"token,omitempty"`
	// Key is the CA's private key, PEM without a passphrase: for tests and small CAs. Read
	// access to it is enough to issue anything.
	Key string `yaml:"key,omitempty"`
	// State is the folder in which the CA keeps its serials, its deny list and its last CRLs.
	// Only its user may write there. Back it up with the key: without it a serial could be
	// signed twice. Empty: the key's path with .state appended; with a token it must be set.
	State string `yaml:"state,omitempty"`
	// Profile of the responder certificates: revocable (default) or br, which has nocheck.
	Profile string `yaml:"profile,omitempty"`
	// MaxLife is the longest life of a responder certificate, and the greatest age of a
	// certificate request. Default 168h, which is also the most for br; at most 2160h.
	MaxLife time.Duration `yaml:"max_life,omitempty"`
	// CRLURL is the distribution point in the responder certificates; the CA signs CRLs for it.
	// Empty: none.
	CRLURL string `yaml:"crl_url,omitempty"`
	// CRLScope says which certificates the CRLs cover: responders (default), or all, where the
	// CA has no other CRL.
	CRLScope string `yaml:"crl_scope,omitempty"`
	// ForbiddenURLs are the distribution points in the CA's other certificates: a crl_url must
	// not be one of them. cert import proposes those that it finds.
	ForbiddenURLs []string `yaml:"forbidden_urls,omitempty"`
	// Country (two letters, ISO 3166-1) and Organization are set in the subject of the
	// responder certificates of profile br, which must have both (BR section 7.1.2.8), if the
	// CA's own subject lacks them.
	Country      string `yaml:"country,omitempty"`
	Organization string `yaml:"organization,omitempty"`
}

// The values of crl_scope.
const ScopeResponders, ScopeAll = "responders", "all"

// SignsCRLs says whether the CA has a CRL here.
func (c *CA) SignsCRLs() bool { return c.CRLURL != "" || c.CRLScope == ScopeAll }

func (c *CA) check(report func(key, problem string)) {
	switch {
	case c.Key == "" && c.Token == (Token{}):
		report("key", "is missing, and token is, too: want one of them")
	case c.Key != "" && c.Token != (Token{}):
		report("key", "stands beside token: want one of them")
	case c.Token != (Token{}) && c.Token.URI == "":
		report("token.uri", "is missing: pkcs11:token=LABEL")
	case c.Token != (Token{}) && c.State == "":
		report("state", "is missing: want the folder in which the CA remembers what it signed")
	}
	if c.CRLScope != "" && c.CRLScope != ScopeResponders && c.CRLScope != ScopeAll {
		report("crl_scope", fmt.Sprintf("%q: want %s or %s", c.CRLScope, ScopeResponders, ScopeAll))
	}
	if c.CRLURL != "" && !IsCRLURL(c.CRLURL) {
		report("crl_url", fmt.Sprintf("%q: want http://HOST/PATH (not https: RFC 5280 section 8)", c.CRLURL))
	}
}

// IsCRLURL says whether a URL can be a distribution point in a certificate.
func IsCRLURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "http" && u.Host != "" && len(u.Path) > 1 && u.User == nil && u.RawQuery == "" && u.Fragment == "" && len(text) <= 255
}
