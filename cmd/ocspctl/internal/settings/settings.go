package settings

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/db/tables"
	"ocspfleet/migrations"
	"ocspfleet/ops/config"
)

// Settings is the content of the configuration file.
type Settings struct {
	config.Ocspctl `yaml:",inline"`
}

// Check adds the checks of the packages that use the keys.
func (c *Settings) Check(report func(key, problem string)) {
	c.Ocspctl.Check(report)
	for name, ca := range c.Issuers {
		Rules(ca).Check(func(key, problem string) { report("issuers."+name+"."+key, problem) })
	}
	checkDNS(c.DNS, report)
}

// WantRole returns an error if the database has another role.
func (c *Settings) WantRole(role migrations.Role) error {
	switch {
	case c.Database.DSN == "":
		return errors.New("the configuration has no database: set database.dsn and role")
	case c.Role != string(role):
		return fmt.Errorf("the configuration names the database of a %s, this needs that of a %s: use --config", c.Role, role)
	}
	return nil
}

// DatabaseSettings returns the settings for opening the database.
func (c *Settings) DatabaseSettings() tables.Config {
	return tables.Config{DSN: c.Database.DSN, PasswordFile: c.Database.PasswordFile, MaxConns: 2, Application: "ocspctl"}
}

// StateFolder returns the folder that records refused PINs.
func (c *Settings) StateFolder() (string, error) {
	if dir := cmp.Or(c.StateDir, boot.StateDirectory()); dir != "" {
		return dir, nil
	}
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) { // XDG Base Directory Specification: ignore a relative path
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("looking for a folder to remember a refused PIN in: set state_dir: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "ocspfleet"), nil
}
