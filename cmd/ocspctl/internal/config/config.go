// Package config is the configuration of ocspctl, /etc/ocspfleet/ocspctl.yaml: its keys,
// what is wrong with them, and what is made of them.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db/tables"
	"ocspfleet/hsm/tokenconf"
	"ocspfleet/migrations"
)

// Config is /etc/ocspfleet/ocspctl.yaml. A verb needs only its own part: the
// key verbs at a site need token alone. Relative paths start where ocspctl runs.
type Config struct {
	// Role says what the database is: master or site. It guards against setting
	// up the one as the other.
	Role string `yaml:"role"`
	// Database is the master's (or, for the db verbs at a site, the site's).
	Database Database `yaml:"database"`
	// Issuers are the CAs whose keys are at hand here, with what each agrees to sign, by
	// the issuers' names at the master. Empty: this machine enrols no site.
	Issuers map[string]CA `yaml:"issuers"`
	// Token is the site's PKCS#11 token, for the key verbs.
	Token Token `yaml:"token"`
	// StateDir is a folder of yours, made if it is not there, in which it is remembered
	// that a token refused the PIN of a PIN file: it is not offered again, by any verb,
	// until the file was touched. At a site name ocspd's own, if you may write there, so
	// that both count together. Empty: the unit's StateDirectory= ($STATE_DIRECTORY), else
	// ocspfleet in $XDG_STATE_HOME, by default ~/.local/state.
	StateDir string `yaml:"state_dir"`
	// Feed is for the feed verbs and key pin.
	Feed Feed `yaml:"feed"`
	// DNS is the zone in which the sites' addresses stand. Empty: they are named for
	// work by hand.
	DNS DNS `yaml:"dns"`
}

type Database struct {
	// DSN is a PostgreSQL URL or keyword string. For the db verbs its user must be
	// a superuser; for all others a member of ocsp_operator (or ocsp_ca, which may
	// issue, revoke and import, no more).
	DSN string `yaml:"dsn"`
	// PasswordFile holds the password, so that DSN can do without. Readable by you only.
	PasswordFile string `yaml:"password_file"`
}

type Token struct {
	// URI is the PKCS#11 URI (RFC 7512): pkcs11:token=LABEL.
	URI string `yaml:"uri"`
	// Module is the PKCS#11 library. Empty: the URI's module-path.
	Module string `yaml:"module"`
	// PINFile holds the user PIN. Empty: the URI's pin-source.
	PINFile string `yaml:"pin_file"`
	// SoftHSM2Conf is SoftHSM's configuration. Empty: SOFTHSM2_CONF or SoftHSM's default.
	SoftHSM2Conf string `yaml:"softhsm2_conf"`
}

// Check implements boot.Checker.
func (c *Config) Check(report func(key, problem string)) {
	if c.Role != "" && c.Role != string(migrations.Master) && c.Role != string(migrations.Site) {
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
	c.DNS.check(report)
}

// Files lists the files that the configuration names, by key.
func (c *Config) Files() map[string]string {
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

func (c *Config) WantRole(role migrations.Role) error {
	switch {
	case c.Database.DSN == "":
		return errors.New("the configuration has no database: set database.dsn and role")
	case c.Role != string(role):
		return fmt.Errorf("the configuration names the database of a %s, this needs that of a %s: use --config", c.Role, role)
	}
	return nil
}

func (d Database) Settings() tables.Config {
	return tables.Config{DSN: d.DSN, PasswordFile: d.PasswordFile, MaxConns: 2, Application: "ocspctl"}
}

// StateFolder is where refused PINs are remembered.
func (c *Config) StateFolder() (string, error) {
	if dir := cmp.Or(c.StateDir, boot.StateDirectory()); dir != "" {
		return dir, nil
	}
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // XDG Base Directory Specification: a relative one is to be ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("looking for a folder to remember a refused PIN in: set state_dir: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "ocspfleet"), nil
}

// Settings are for opening the token, with a folder to remember a refused PIN in.
func (t Token) Settings(stateDir string) (tokenconf.Config, error) {
	if t.URI == "" {
		return tokenconf.Config{}, errors.New("the configuration has no token: set token.uri")
	}
	return tokenconf.Config{URI: t.URI, Module: t.Module, PINFile: t.PINFile, SoftHSM2Conf: t.SoftHSM2Conf, StateDir: stateDir, MaxSessions: 2}, nil
}
