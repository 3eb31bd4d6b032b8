package config

import (
	"ocspfleet/hsm/tokenconf"
)

// Database says how to connect to a PostgreSQL.
type Database struct {
	// DSN is a PostgreSQL URL (or keyword string) without a password.
	DSN string `yaml:"dsn,omitempty"`
	// PasswordFile holds the password, one line, readable only by this program's user.
	PasswordFile string `yaml:"password_file,omitempty"`
}

// Token selects a PKCS#11 token.
type Token struct {
	// URI is the token's PKCS#11 URI (RFC 7512): "pkcs11:token=site-a". It may contain
	// module-path and pin-source instead of the keys below.
	URI string `yaml:"uri,omitempty"`
	// Module is the PKCS#11 library: /usr/lib/softhsm/libsofthsm2.so. Empty: the URI's
	// module-path.
	Module string `yaml:"module,omitempty"`
	// PINFile holds the user PIN, one line, readable only by this program's user. Empty: the
	// URI's pin-source.
	PINFile string `yaml:"pin_file,omitempty"`
	// SoftHSM2Conf is SoftHSM's configuration, an absolute path. SoftHSM only. Empty:
	// SOFTHSM2_CONF or SoftHSM's default.
	SoftHSM2Conf string `yaml:"softhsm2_conf,omitempty"`
}

// Config returns the settings to open the token with; a refused PIN is remembered in stateDir.
func (t Token) Config(stateDir string) tokenconf.Config {
	return tokenconf.Config{URI: t.URI, Module: t.Module, PINFile: t.PINFile, SoftHSM2Conf: t.SoftHSM2Conf, StateDir: stateDir}
}
