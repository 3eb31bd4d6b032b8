package zone

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// Key is a TSIG key. Its holder may do what the primary allows this key.
type Key struct {
	Name      string
	Algorithm string // one of Algorithms; empty: the first
	Secret    []byte
}

// Algorithms are those that RFC 8945 section 6 still requires for signing, the mandatory one
// first.
func Algorithms() []string { return []string{"hmac-sha256", "hmac-sha384", "hmac-sha512"} }

// String hides the secret.
func (k Key) String() string { return k.Name + " (" + k.algorithm() + ")" }

// GoString hides the secret, too.
func (k Key) GoString() string { return k.String() }

func (k Key) algorithm() string {
	if k.Algorithm == "" {
		return Algorithms()[0]
	}
	return k.Algorithm
}

// leastSecret is half the output of the weakest hash: too long to guess.
const leastSecret = 16

func (k Key) check() error {
	if err := CheckName(k.Name); err != nil {
		return fmt.Errorf("dns.key: %w", err)
	}
	if !slices.Contains(Algorithms(), k.algorithm()) {
		return fmt.Errorf("dns.algorithm: %q: want %s", k.Algorithm, strings.Join(Algorithms(), ", "))
	}
	if len(k.Secret) < leastSecret {
		return fmt.Errorf("dns.secret_file: the secret has %d octets: want %d at least (tsig-keygen makes a good one)", len(k.Secret), leastSecret)
	}
	return nil
}

// wire is the algorithm's name in messages.
func (k Key) wire() string { return dns.Fqdn(k.algorithm()) }

func (k Key) base64() string { return base64.StdEncoding.EncodeToString(k.Secret) }

// mostSecret bounds a file of a key: tsig-keygen's output has 120 octets.
const mostSecret = 4096

// secretLine is the line of the secret as bind9's tsig-keygen and knot's keymgr -t print it.
var secretLine = regexp.MustCompile(`(?m)^\s*secret:?\s+"?([A-Za-z0-9+/=]+)"?;?\s*$`)

// ReadSecret reads a key's secret: base64 alone, or the output file of tsig-keygen (bind9) or
// keymgr -t (knot). A file that users other than its owner may read is refused.
func ReadSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the TSIG secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the TSIG secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading the TSIG secret: %s has mode %04o: others may read it (chmod 600)", file, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, mostSecret))
	if err != nil {
		return nil, fmt.Errorf("reading the TSIG secret: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	if found := secretLine.FindStringSubmatch(text); found != nil {
		text = found[1]
	}
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(secret) == 0 { // err would quote a part of the secret
		return nil, fmt.Errorf("reading the TSIG secret: %s: %w", file, errors.New("want base64, or the file as tsig-keygen or keymgr -t prints it"))
	}
	return secret, nil
}
