package key

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/hsm"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("key", "the site's OCSP key in its PKCS#11 token, and its TLS key for the feed",
		atToken(&generate{Daemon: settings.OcspdFile}), atToken(&csr{}), atToken(&list{}), atToken(&remove{}), &pin{})
}

// run is the run of a verb at the configured token.
type run struct {
	*cli.Program
	token  *hsm.Token
	config *settings.Settings
}

func atToken(v ctl.Verb[*run]) cli.Verb {
	return ctl.At(v, func(ctx context.Context, p *cli.Program, c *settings.Settings) (*run, func() error, error) {
		stateDir, err := c.StateFolder()
		if err != nil {
			return nil, nil, err
		}
		open, err := settings.Token(c.Token, stateDir)
		if err != nil {
			return nil, nil, err
		}
		token, err := hsm.Open(ctx, hsm.Config{Config: open, Logger: boot.NewLogger(p.Stderr, p.TTY, slog.LevelWarn)})
		if err != nil {
			return nil, nil, err
		}
		return &run{p, token, c}, token.Close, nil
	})
}

// record returns a key of the token; its ID is CKA_ID, its fingerprint the SHA-256 of the
// SubjectPublicKeyInfo.
func record(k hsm.KeyInfo) cli.Record {
	return cli.Record{cli.F("label", "label", k.Label), cli.F("id", "", k.ID), cli.F("kind", "kind", string(k.Kind)), cli.F("fingerprint", "fingerprint", k.Fingerprint)}
}

// chooseKey finds a key by its label, or the only one.
func chooseKey(token *hsm.Token, label string) (hsm.KeyInfo, error) {
	keys, err := token.Keys()
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	if len(keys) == 1 && label == "" {
		return keys[0], nil
	}
	labels := make([]string, len(keys))
	var found []hsm.KeyInfo
	for i, key := range keys {
		if key.Label == label && label != "" {
			found = append(found, key)
		}
		labels[i] = key.Label
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && len(keys) > 0 && label == "":
		return hsm.KeyInfo{}, cli.Usagef("the token holds several keys: choose with --label %s", strings.Join(labels, "|"))
	}
	odd, err := token.Oddities() // why there is no key, or more than one
	if err != nil {
		return hsm.KeyInfo{}, err
	}
	why := ""
	if len(odd) > 0 {
		why = "\n" + strings.Join(odd, "\n")
	}
	switch {
	case len(found) > 1:
		return hsm.KeyInfo{}, fmt.Errorf("the token holds %d keys %q:%s", len(found), label, why)
	case len(keys) == 0:
		return hsm.KeyInfo{}, fmt.Errorf("the token holds no key: ocspctl key generate%s", why)
	}
	return hsm.KeyInfo{}, fmt.Errorf("the token holds no key %q: it has %s%s", label, strings.Join(labels, ", "), why)
}
