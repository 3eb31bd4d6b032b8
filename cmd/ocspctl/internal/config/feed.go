package config

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
)

// Feed is what the feed verbs want to know.
type Feed struct {
	// Root is the verifier key of the feed's root (ocspctl feed key generate).
	Root string `yaml:"root"`
	// TLSKeyFile is this machine's TLS key, to ask the master or a peer as.
	TLSKeyFile string `yaml:"tls_key_file"`
}

func (f Feed) Verifier() (note.Verifier, error) {
	if f.Root == "" {
		return nil, errors.New("the configuration does not pin the feed's root: set feed.root to its verifier key, or give --root")
	}
	root, err := note.NewVerifier(f.Root)
	if err != nil {
		return nil, fmt.Errorf("the feed's root %q: want NAME+HASH+BASE64, as feed key generate printed it", f.Root)
	}
	return root, nil
}
