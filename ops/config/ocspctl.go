package config

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Ocspctl is /etc/ocspfleet/ocspctl.yaml. A verb needs only its own part: the key verbs at a
// site need only token. Relative paths are relative to the working directory of ocspctl.
type Ocspctl struct {
	// Role says which database this is: master or site. It prevents setting up one as the
	// other.
	Role string `yaml:"role,omitempty"`
	// Database is the master's (or, for the db verbs at a site, the site's). For the db verbs
	// its user must be a superuser; for all others a member of ocsp_operator (or ocsp_ca, which
	// may only issue, revoke and import).
	Database Database `yaml:"database,omitempty"`
	// Issuers are the CAs whose keys this machine can use, with what each agrees to sign, by
	// the issuers' names at the master. Empty: this machine enrols no site.
	Issuers map[string]CA `yaml:"issuers,omitempty"`
	// Token is the site's PKCS#11 token, for the key verbs.
	Token Token `yaml:"token,omitempty"`
	// StateDir is a folder of yours, made if it does not exist. It records that a token refused
	// the PIN of a PIN file: no verb offers that PIN again until the file is touched. At a site
	// set ocspd's own folder, if you may write there, so that both share the record. Empty: the
	// unit's StateDirectory= ($STATE_DIRECTORY), else ocspfleet in $XDG_STATE_HOME, by default
	// ~/.local/state.
	StateDir string `yaml:"state_dir,omitempty"`
	// Feed is for the feed verbs and key pin.
	Feed OcspctlFeed `yaml:"feed,omitempty"`
	// DNS is the zone with the sites' addresses. Empty: ocspctl lists the changes to be made by
	// hand.
	DNS DNS `yaml:"dns,omitempty"`
}

// Check finds what strict reading cannot.
func (c *Ocspctl) Check(report func(key, problem string)) {
	if c.Role != "" && c.Role != RoleMaster && c.Role != RoleSite {
		report("role", fmt.Sprintf("%q: want master or site", c.Role))
	}
	if c.Database != (Database{}) {
		if c.Database.DSN == "" {
			report("database.dsn", "is missing")
		}
		if c.Role == "" {
			report("role", "is missing: master or site, whichever database.dsn is of")
		}
	}
	for name, ca := range c.Issuers {
		ca.check(func(key, problem string) { report("issuers."+name+"."+key, problem) })
	}
	if c.Token != (Token{}) && c.Token.URI == "" {
		report("token.uri", "is missing: pkcs11:token=LABEL")
	}
	if c.Feed.Root != "" {
		if _, err := c.Feed.Verifier(); err != nil {
			report("feed.root", err.Error())
		}
	}
}

// Files lists the files in the configuration, by key.
func (c *Ocspctl) Files() map[string]string {
	files := map[string]string{
		"database.password_file": c.Database.PasswordFile,
		"token.module":           c.Token.Module,
		"token.pin_file":         c.Token.PINFile,
		"token.softhsm2_conf":    c.Token.SoftHSM2Conf,
		"feed.tls_key_file":      c.Feed.TLSKeyFile,
	}
	for name, issuer := range c.Issuers {
		files["issuers."+name+".certificate"] = issuer.Certificate
		files["issuers."+name+".key"] = issuer.Key
		files["issuers."+name+".token.module"] = issuer.Token.Module
		files["issuers."+name+".token.pin_file"] = issuer.Token.PINFile
		files["issuers."+name+".token.softhsm2_conf"] = issuer.Token.SoftHSM2Conf
	}
	return files
}

// OcspctlFeed is the configuration of the feed verbs.
type OcspctlFeed struct {
	// Root is the verifier key of the feed's root (ocspctl feed key generate).
	Root string `yaml:"root,omitempty"`
	// TLSKeyFile is this machine's TLS key, for connections to the master or a peer.
	TLSKeyFile string `yaml:"tls_key_file,omitempty"`
}

// Verifier returns the pinned root.
func (f OcspctlFeed) Verifier() (note.Verifier, error) {
	if f.Root == "" {
		return nil, errors.New("the configuration does not pin the feed's root: set feed.root to its verifier key, or give --root")
	}
	root, err := note.NewVerifier(f.Root)
	if err != nil {
		return nil, fmt.Errorf("the feed's root %q: want NAME+HASH+BASE64, as feed key generate printed it", f.Root)
	}
	return root, nil
}
