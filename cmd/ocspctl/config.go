package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db"
	"ocspfleet/hsm"
	"ocspfleet/migrations"
)

// config is /etc/ocspfleet/ocspctl.yaml. A verb needs only its own part: the
// key verbs at a site need token alone. Relative paths start where ocspctl runs.
type config struct {
	// Role says what the database is: master or site. It guards against setting
	// up the one as the other.
	Role string `yaml:"role"`
	// Database is the master's (or, for the db verbs at a site, the site's).
	Database database `yaml:"database"`
	// Issuers are the CAs whose keys are at hand here, with what each agrees to sign, by
	// the issuers' names at the master. Empty: this machine enrols no site.
	Issuers map[string]caConfig `yaml:"issuers"`
	// Token is the site's PKCS#11 token, for the key verbs.
	Token token `yaml:"token"`
	// StateDir is a folder of yours, made if it is not there, in which it is remembered
	// that a token refused the PIN of a PIN file: it is not offered again, by any verb,
	// until the file was touched. At a site name ocspd's own, if you may write there, so
	// that both count together. Empty: the unit's StateDirectory= ($STATE_DIRECTORY), else
	// ocspfleet in $XDG_STATE_HOME, by default ~/.local/state.
	StateDir string `yaml:"state_dir"`
	// Feed is for the feed verbs and key pin.
	Feed feedPart `yaml:"feed"`
	// DNS is the zone in which the sites' addresses stand. Empty: they are named for
	// work by hand.
	DNS dnsPart `yaml:"dns"`
}

type database struct {
	// DSN is a PostgreSQL URL or keyword string. For the db verbs its user must be
	// a superuser; for all others a member of ocsp_operator (or ocsp_ca, which may
	// issue, revoke and import, no more).
	DSN string `yaml:"dsn"`
	// PasswordFile holds the password, so that DSN can do without. Readable by you only.
	PasswordFile string `yaml:"password_file"`
}

type token struct {
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
func (c *config) Check(report func(key, problem string)) {
	if c.Role != "" && c.Role != string(migrations.Master) && c.Role != string(migrations.Site) {
		report("role", fmt.Sprintf("%q: want master or site", c.Role))
	}
	if c.Database != (database{}) {
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
	if c.Token != (token{}) && c.Token.URI == "" {
		report("token.uri", "is missing: pkcs11:token=LABEL")
	}
	if c.Feed.Root != "" {
		if _, err := c.Feed.verifier(); err != nil {
			report("feed.root", err.Error())
		}
	}
	c.DNS.check(report)
}

// files lists the files that the configuration names, by key.
func (c *config) files() map[string]string {
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

func (p *program) config() (*config, error) {
	var c config
	if err := boot.Load(p.configPath, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

func (c *config) wantRole(role migrations.Role) error {
	switch {
	case c.Database.DSN == "":
		return errors.New("the configuration has no database: set database.dsn and role")
	case c.Role != string(role):
		return fmt.Errorf("the configuration names the database of a %s, this needs that of a %s: use --config", c.Role, role)
	}
	return nil
}

func (d database) settings() db.Config {
	return db.Config{DSN: d.DSN, PasswordFile: d.PasswordFile, MaxConns: 2, Application: "ocspctl"}
}

// stateDir is where refused PINs are remembered.
func (c *config) stateDir() (string, error) {
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

// settings are for opening the token, with a folder to remember a refused PIN in.
func (t token) settings(stateDir string) (hsm.Config, error) {
	if t.URI == "" {
		return hsm.Config{}, errors.New("the configuration has no token: set token.uri")
	}
	return hsm.Config{URI: t.URI, Module: t.Module, PINFile: t.PINFile, SoftHSM2Conf: t.SoftHSM2Conf, StateDir: stateDir, MaxSessions: 2}, nil
}

// sudoUser is who became root by sudo; the variable is a hint, not a proof.
func sudoUser() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return os.Getenv("SUDO_USER")
}

func (p *program) configCommand() *cobra.Command {
	var daemon string
	check := p.verb("check [FILE]", "read a configuration strictly: all faults at once; exit code 3 when there are any", `
		ocspctl config check --config ./ocspctl.yaml
		ocspctl config check --daemon ocspd
		ocspctl config check --daemon ocspsyncd ./ocspsyncd.yaml`,
		cobra.MaximumNArgs(1), func(ctx context.Context, args []string) error {
			if daemon == "" {
				if len(args) == 1 {
					p.configPath = args[0]
				}
				return p.configCheck()
			}
			if !slices.Contains(daemons, daemon) {
				return usagef("--daemon %q: want %s", daemon, strings.Join(daemons, " or "))
			}
			file := "/etc/ocspfleet/" + daemon + ".yaml"
			if len(args) == 1 {
				file = args[0]
			}
			return p.daemonCheck(ctx, daemon, file)
		})
	check.Flags().StringVar(&daemon, "daemon", "", "have the daemon check its own: `"+strings.Join(daemons, "|")+"`")
	return noun("config", "look at a configuration", check)
}

func (p *program) configCheck() error {
	cfg, err := p.config()
	if faults := (*boot.Faults)(nil); errors.As(err, &faults) {
		return wrongf("%v", err)
	}
	if err != nil {
		return err
	}
	var faults []string
	for key, path := range cfg.files() {
		if path == "" {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: %v", key, err))
			continue
		}
		_ = file.Close() // nothing was written
	}
	if _, err := cfg.Database.settings().URL(); err != nil && len(faults) == 0 {
		faults = append(faults, fmt.Sprintf("database.password_file: %v", err))
	}
	if cfg.DNS.set() {
		if _, err := cfg.DNS.zone(p.now); err != nil {
			faults = append(faults, fmt.Sprintf("dns.secret_file: %v", err))
		}
	}
	slices.Sort(faults)
	if len(faults) == 0 {
		return p.print(map[string]any{"config": p.configPath, "faults": []string{}}, func(t *table) { t.line(p.configPath + " is in order.") })
	}
	if err := p.print(map[string]any{"config": p.configPath, "faults": faults}, func(t *table) {
		for _, fault := range faults {
			t.line(fault)
		}
	}); err != nil {
		return err
	}
	return wrongf("%d files that %s names cannot be read", len(faults), p.configPath)
}
