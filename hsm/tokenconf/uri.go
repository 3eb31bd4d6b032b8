package tokenconf

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
)

// URI is a parsed PKCS#11 URI (RFC 7512): a token and a key in it. An empty field was not
// given.
type URI struct {
	Token        string // label of the token
	Serial       string // serial number of the token
	Manufacturer string // of the token
	Model        string // of the token
	Object       string // label of the key
	ID           []byte // CKA_ID of the key
	ModulePath   string // absolute path of the PKCS#11 library
	PINSource    string // absolute path of the file that holds the PIN
}

// ParseURI reads a PKCS#11 URI such as
//
//	pkcs11:token=site-a?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/ocspfleet/pin
//
// An unknown attribute is an error, since it could select another token (RFC 7512 section 2.3).
// A PIN inside the URI is refused.
func ParseURI(text string) (URI, error) {
	rest, ok := cutPrefixFold(text, "pkcs11:")
	if !ok {
		// The text itself may hold a PIN: it is not repeated in any error.
		return URI{}, fmt.Errorf("parsing PKCS#11 URI: want it to begin with %q", "pkcs11:")
	}
	path, query, _ := strings.Cut(rest, "?")
	var u URI
	if err := u.attributes(path, ";", u.setPath); err != nil {
		return URI{}, fmt.Errorf("parsing PKCS#11 URI: %w", err)
	}
	if err := u.attributes(query, "&", u.setQuery); err != nil {
		return URI{}, fmt.Errorf("parsing PKCS#11 URI: %w", err)
	}
	return u, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// attributes calls set for each name=value of part, percent-decoded (RFC 7512 section 2.3: each
// attribute at most once; + is not a blank).
func (u *URI) attributes(part, separator string, set func(name, value string) error) error {
	seen := make(map[string]bool)
	for pair := range strings.SplitSeq(part, separator) {
		if pair == "" {
			continue
		}
		name, raw, ok := strings.Cut(pair, "=")
		if name == "pin-value" {
			return fmt.Errorf("attribute %q: secrets are never in the configuration: put the PIN into a file and use pin-source=file:/path", name)
		}
		if !ok {
			return fmt.Errorf("attribute %q: want name=value", name)
		}
		if seen[name] {
			return fmt.Errorf("attribute %q: given twice", name)
		}
		seen[name] = true
		value, err := url.PathUnescape(raw)
		if err != nil {
			return fmt.Errorf("attribute %q: want %%XX with two hexadecimal digits after each percent sign", name)
		}
		if value == "" {
			return fmt.Errorf("attribute %q: empty", name)
		}
		if err := set(name, value); err != nil {
			return fmt.Errorf("attribute %q: %w", name, err)
		}
	}
	return nil
}

func (u *URI) setPath(name, value string) error {
	switch name {
	case "token":
		u.Token = value
	case "serial":
		u.Serial = value
	case "manufacturer":
		u.Manufacturer = value
	case "model":
		u.Model = value
	case "object":
		u.Object = value
	case "id":
		u.ID = []byte(value)
	case "type":
		if value != "private" {
			return fmt.Errorf("%q: want private", value)
		}
	default:
		return fmt.Errorf("not supported: want token, serial, manufacturer, model, object, id or type")
	}
	return nil
}

func (u *URI) setQuery(name, value string) error {
	switch name {
	case "module-path":
		if !strings.HasPrefix(value, "/") {
			return fmt.Errorf("%q: want an absolute path", value)
		}
		u.ModulePath = value
	case "pin-source":
		file, _ := cutPrefixFold(value, "file:")
		file = strings.TrimPrefix(file, "//") // file:///path
		if !strings.HasPrefix(file, "/") {
			return fmt.Errorf("want file:/absolute/path or /absolute/path; a command is not run")
		}
		u.PINSource = file
	default:
		return fmt.Errorf("not supported: want module-path or pin-source")
	}
	return nil
}

// Check compares manufacturer and model in the URI with the token's.
func (u URI) Check(manufacturer, model string) error {
	for _, c := range []struct{ name, want, got string }{
		{"manufacturer", u.Manufacturer, manufacturer},
		{"model", u.Model, model},
	} {
		if c.want != "" && c.want != c.got {
			return fmt.Errorf("the URI wants %s %q, the token has %q", c.name, c.want, c.got)
		}
	}
	return nil
}

// String returns the URI in a form that ParseURI reads back.
func (u URI) String() string {
	var path, query []string
	add := func(to *[]string, name, value string) {
		if value != "" {
			*to = append(*to, name+"="+Escape(value))
		}
	}
	add(&path, "token", u.Token)
	add(&path, "serial", u.Serial)
	add(&path, "manufacturer", u.Manufacturer)
	add(&path, "model", u.Model)
	add(&path, "object", u.Object)
	if len(u.ID) > 0 {
		digits := hex.EncodeToString(u.ID)
		var id strings.Builder
		for i := 0; i < len(digits); i += 2 {
			id.WriteString("%" + digits[i:i+2])
		}
		path = append(path, "id="+id.String())
	}
	add(&query, "module-path", u.ModulePath)
	add(&query, "pin-source", u.PINSource)
	text := "pkcs11:" + strings.Join(path, ";")
	if len(query) > 0 {
		text += "?" + strings.Join(query, "&")
	}
	return text
}

// Escape percent-encodes all but the unreserved characters and the slash, which RFC 7512
// section 2.3 allows in both parts of the URI where Escape is used.
func Escape(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
