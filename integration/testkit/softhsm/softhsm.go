// Package softhsm makes SoftHSM tokens for tests and for the demo fleet.
//
// A token made here has a PIN that its maker chose and that stood on a command
// line for a moment (softhsm2-util reads it from a terminal or from its
// arguments only). It protects nothing and must not be used for a real key.
package softhsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// SoftToken is one initialised SoftHSM token in a directory of its own.
// All paths are absolute.
type SoftToken struct {
	Dir     string // holds all below
	Conf    string // softhsm2.conf; SOFTHSM2_CONF of the process that uses the token
	Module  string // the PKCS#11 library
	PINFile string // holds the PIN and a newline; mode 0600
	Label   string
}

// libraries are the places of Debian and Ubuntu, then Fedora.
var libraries = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
}

// Module returns the path of SoftHSM's PKCS#11 library.
func Module() (string, error) {
	for _, path := range libraries {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("finding libsofthsm2.so in %v: not there: apt install softhsm2", libraries)
}

// New makes dir with dir/tokens, dir/softhsm2.conf and dir/pin, and in it a
// token of this label and PIN. It refuses a dir that already holds tokens.
// The environment of the calling process is not changed.
func New(dir, label, pin string) (*SoftToken, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("making SoftHSM token %q: %w", label, err)
	}
	t, err := Existing(abs, label)
	if err != nil {
		return nil, fmt.Errorf("making SoftHSM token %q: %w", label, err)
	}
	if err := t.files(pin); err != nil {
		return nil, fmt.Errorf("making SoftHSM token %q in %s: %w", label, abs, err)
	}
	if err := t.initialise(pin); err != nil {
		return nil, fmt.Errorf("making SoftHSM token %q in %s: %w", label, abs, err)
	}
	return t, nil
}

// Existing names the parts of a token that New made earlier; it looks at
// nothing but the library.
func Existing(dir, label string) (*SoftToken, error) {
	module, err := Module()
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("naming %s: %w", dir, err)
	}
	return &SoftToken{
		Dir:     abs,
		Conf:    filepath.Join(abs, "softhsm2.conf"),
		Module:  module,
		PINFile: filepath.Join(abs, "pin"),
		Label:   label,
	}, nil
}

// URI returns the PKCS#11 URI (RFC 7512) of the token, library and PIN file included.
func (t *SoftToken) URI() string {
	return "pkcs11:token=" + escape(t.Label) + "?module-path=" + escape(t.Module) + "&pin-source=file:" + escape(t.PINFile)
}

// escape percent-encodes all that could end a value; the slash is allowed.
func escape(value string) string {
	return strings.NewReplacer("%2F", "/", "+", "%20").Replace(url.QueryEscape(value))
}

// Tokens returns the directory that SoftHSM keeps the objects in.
func (t *SoftToken) Tokens() string { return filepath.Join(t.Dir, "tokens") }

func (t *SoftToken) files(pin string) error {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if err := os.Mkdir(t.Tokens(), 0o700); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: remove it or use another directory", t.Tokens())
	} else if err != nil {
		return fmt.Errorf("making the directory of tokens: %w", err)
	}
	conf := "directories.tokendir = " + t.Tokens() + "\n" +
		"objectstore.backend = file\n" +
		"log.level = ERROR\n" + // to syslog, if there is one
		"slots.removable = false\n"
	if err := os.WriteFile(t.Conf, []byte(conf), 0o600); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	if err := os.WriteFile(t.PINFile, []byte(pin+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the PIN file: %w", err)
	}
	return nil
}

// initialise runs softhsm2-util. A child process, and not C_InitToken in this
// one: the library reads SOFTHSM2_CONF once, at C_Initialize, so a process that
// has a token open could not make another in a second directory.
func (t *SoftToken) initialise(pin string) error {
	tool, err := exec.LookPath("softhsm2-util")
	if err != nil {
		return errors.New("running softhsm2-util: not there: apt install softhsm2")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, "--init-token", "--free", "--label", t.Label, "--so-pin", pin, "--pin", pin)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+t.Conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running softhsm2-util: %w: %s", err, out)
	}
	return nil
}
