package ca

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/ops/issuance"
)

// WriteFile writes a file for the way between CA and master. A signed series is worth stealing
// until its last end, so only its owner can read the file.
func WriteFile(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = issuance.WritePrivate(path, append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	return nil
}

// maxBundle is room for the longest series of the longest CRLs, in octets.
const maxBundle = 16 << 20

// ReadFile reads a file from the CA, or for it. what names it in errors.
func ReadFile(p *cli.Program, path, what string, v any) error {
	raw, err := ctl.ReadAtMost(path, maxBundle)
	if err != nil {
		return fmt.Errorf("reading the %s: %w", what, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(p.Stderr, "ocspctl: others may read or write %s (%s): chmod 600 %s\n", path, info.Mode().Perm(), path)
	}
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return fmt.Errorf("reading the %s %s: %w", what, path, err)
	}
	return nil
}

// ReadBundle reads a bundle, signed or not.
func ReadBundle(p *cli.Program, path string) (*issuance.Bundle, error) {
	var b issuance.Bundle
	return &b, ReadFile(p, path, "bundle", &b)
}
