package pg

import (
	"fmt"
	"net/url"
	"os"
	"strings"
)

// readSecret reads a one-line secret from a file, without its line end. One that all users can
// read is refused; the group of the daemon may.
func readSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s: every user of this machine can read or write it (mode %04o): chmod o= on it", path, info.Mode().Perm())
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\n\r\x00") {
		return "", fmt.Errorf("%s: want one line with the secret", path)
	}
	return secret, nil
}

// URL returns the DSN with the password of PasswordFile in it, for package
// migrations, which opens its own connections. It is a secret.
func (c Config) URL() (string, error) {
	if c.PasswordFile == "" {
		return c.DSN, nil
	}
	secret, err := readSecret(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("reading the database password: %w", err)
	}
	if !strings.HasPrefix(c.DSN, "postgres://") && !strings.HasPrefix(c.DSN, "postgresql://") {
		return c.DSN + " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(secret) + "'", nil
	}
	u, err := url.Parse(c.DSN)
	if err != nil {
		return "", fmt.Errorf("reading the database address: it is no URL") // url.Parse would quote the password in it
	}
	query := u.Query()
	query.Set("password", secret)
	u.RawQuery = query.Encode()
	return u.String(), nil
}
