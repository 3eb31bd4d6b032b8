package config

import (
	"fmt"
	"net/url"
	"time"
)

// CA is one CA: where its key is, and what it agrees to sign. It is the CA's own
// word. What the master or a bundle wants otherwise is refused.
type CA struct {
	// Certificate is the CA's certificate, PEM or DER. Empty: the one at the master;
	// ca-sign wants it.
	Certificate string `yaml:"certificate,omitempty"`
	// Token is where the CA's key lies: it is found by the certificate. Instead of Key.
	Token Token `yaml:"token,omitempty"`
	// Key is the CA's private key, PEM without a passphrase: for tests and small
	// CAs. Whoever reads it can issue anything.
	Key string `yaml:"key,omitempty"`
	// State is the folder in which the CA remembers its serials, its deny list and its
	// last CRLs, writable by its user alone and kept with the key: without it a serial
	// could be signed twice. Empty: the key's path with .state behind it; with a token it
	// must be set.
	State string `yaml:"state,omitempty"`
	// Profile of the responder certificates: revocable (default) or br, which has nocheck.
	Profile string `yaml:"profile,omitempty"`
	// MaxLife of a responder certificate, and how old a certificate request may become.
	// Default and most for br 168h; at most 2160h.
	MaxLife time.Duration `yaml:"max_life,omitempty"`
	// CRLURL is the distribution point that the responder certificates name, and for
	// which the CA signs CRLs. Empty: none.
	CRLURL string `yaml:"crl_url,omitempty"`
	// CRLScope says of what certificates the CRLs speak: responders (default), or all,
	// where the CA has no other CRL.
	CRLScope string `yaml:"crl_scope,omitempty"`
	// ForbiddenURLs are the distribution points that the CA's other certificates name:
	// never a crl_url. cert import proposes what it sees.
	ForbiddenURLs []string `yaml:"forbidden_urls,omitempty"`
	// Country (two letters, ISO 3166-1) and Organization stand in the subject of the
	// responder certificates of profile br, which must name both (BR section 7.1.2.8),
	// where the CA's own subject names none.
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

// IsCRLURL says whether a distribution point can be written into a certificate.
func IsCRLURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "http" && u.Host != "" && len(u.Path) > 1 && u.User == nil && u.RawQuery == "" && u.Fragment == "" && len(text) <= 255
}
