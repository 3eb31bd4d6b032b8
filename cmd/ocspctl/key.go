package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/hsm"

	"github.com/spf13/cobra"
)

func (p *program) keyCommand() *cobra.Command {
	return cli.Noun("key", "the site's OCSP key in its PKCS#11 token, and its TLS key for the feed", p.keyGenerateCommand(), p.keyCSRCommand(), p.keyListCommand(), p.keyDeleteCommand(), p.keyPinCommand())
}

// atToken runs a verb on the token of the configuration.
func (p *program) atToken(ctx context.Context, do func(*hsm.Token) error) error {
	cfg, err := p.config()
	if err != nil {
		return err
	}
	stateDir, err := cfg.StateFolder()
	if err != nil {
		return err
	}
	settings, err := cfg.Token.Settings(stateDir)
	if err != nil {
		return err
	}
	settings.Logger = boot.NewLogger(p.Stderr, p.TTY, slog.LevelWarn)
	token, err := hsm.Open(ctx, settings)
	if err != nil {
		return err
	}
	return errors.Join(do(token), token.Close())
}

// keyView is a key of the token as ocspctl shows it.
type keyView struct {
	Label       string `json:"label"`
	ID          string `json:"id"` // CKA_ID, hex
	Kind        string `json:"kind"`
	Fingerprint string `json:"fingerprint"` // SHA-256 of the SubjectPublicKeyInfo, hex
}

func viewKey(k hsm.KeyInfo) keyView {
	return keyView{k.Label, hex.EncodeToString(k.ID), string(k.Kind), hex.EncodeToString(k.Fingerprint[:])}
}

func (v keyView) tell(t *cli.Table) {
	t.Row("label", v.Label)
	t.Row("kind", v.Kind)
	t.Row("fingerprint", v.Fingerprint)
}

// The key verbs but delete take no --apply: a key is added, none is changed.
func (p *program) keyGenerateCommand() *cobra.Command {
	var kindName, label, daemon string
	cmd := p.Command("generate", "make a key in the token; it never leaves it", `
		ocspctl key generate --label ocsp-site-a-20261122
		ocspctl key generate --kind rsa2048 --label ocsp-site-a-20261122`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			kind, err := chooseKind(kindName, daemon)
			if err != nil {
				return err
			}
			return p.atToken(ctx, func(token *hsm.Token) error { return p.keyGenerate(token, kind, label) })
		})
	cmd.Flags().StringVar(&kindName, "kind", "", "the kind of key: `p256|p384|rsa2048|rsa3072` (default: rsa2048 where the issuers that ocspd pins have RSA keys, else p256)")
	cmd.Flags().StringVar(&daemon, "ocspd-config", ocspdConfig, "look for the issuers in ocspd's configuration `FILE`")
	cmd.Flags().StringVar(&label, "label", "", "its `LABEL` in the token, such as ocsp-SITE-DATE")
	require(cmd, "label")
	return atOnce(cmd)
}

// chooseKind is the kind of a new key: who verifies what a CA with an RSA key signs may
// know nothing else than RSA.
func chooseKind(name, daemon string) (hsm.KeyKind, error) {
	if name != "" {
		kind, err := hsm.ParseKeyKind(name)
		if err != nil {
			return "", cli.Usagef("--kind: %v", err)
		}
		return kind, nil
	}
	place, err := peekDaemon(daemon)
	if err != nil {
		return "", cli.Usagef("--kind rsa2048 for issuers with an RSA key, --kind p256 for others: which they are is not known (%v)", err)
	}
	kinds := map[hsm.KeyKind]bool{}
	for _, issuer := range place.Issuers {
		certificate, err := ctl.ReadCertificate(issuer.Certificate)
		if err != nil {
			return "", cli.Usagef("--kind rsa2048 for issuers with an RSA key, --kind p256 for others: %s pins one without its certificate (%v)", daemon, err)
		}
		kind := hsm.P256
		if certificate.PublicKeyAlgorithm == x509.RSA {
			kind = hsm.RSA2048
		}
		kinds[kind] = true
	}
	switch {
	case len(kinds) > 1:
		return "", cli.Usagef("--kind: %s pins issuers with RSA keys and others: make a key for each, --kind rsa2048 and --kind p256, and send two requests", daemon)
	case kinds[hsm.RSA2048]:
		return hsm.RSA2048, nil
	}
	return hsm.P256, nil
}

func (p *program) keyGenerate(token *hsm.Token, kind hsm.KeyKind, label string) error {
	if _, err := token.GenerateKey(kind, label); errors.Is(err, hsm.ErrKind) {
		other := hsm.RSA2048
		if kind == hsm.RSA2048 || kind == hsm.RSA3072 {
			other = hsm.P256
		}
		return fmt.Errorf("%w: choose another, such as --kind %s (it tells of %s)", err, other, strings.Join(token.Info().Mechanisms, ", "))
	} else if err != nil {
		return err
	}
	key, err := chooseKey(token, label) // labels are unique
	if err != nil {
		return err
	}
	result := struct {
		cli.Outcome
		Key keyView `json:"key"`
	}{cli.NewOutcome("key generate", true, true), viewKey(key)}
	return p.Print(result, func(t *cli.Table) {
		result.Key.tell(t)
		result.Outcome.Tell(t)
	})
}

func (p *program) keyCSRCommand() *cobra.Command {
	var label, out string
	cmd := p.Command("csr SITE", "make a certificate request for the CA's staff, signed by the key", `
		ocspctl key csr site-a --out site-a.csr
		ocspctl key csr site-a --label ocsp-site-a-20261122 --out site-a.csr`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			if err := db.CheckSite(args[0]); err != nil {
				return cli.Usagef("%v", err)
			}
			return p.atToken(ctx, func(token *hsm.Token) error { return p.keyCSR(token, args[0], label, out) })
		})
	cmd.Flags().StringVar(&label, "label", "", "the `LABEL` of the key (default: the only one there)")
	cmd.Flags().StringVar(&out, "out", "", "write the request to `FILE` (default: print it)")
	return atOnce(cmd)
}

func (p *program) keyCSR(token *hsm.Token, site, label, out string) error {
	key, err := chooseKey(token, label)
	if err != nil {
		return err
	}
	signer, err := token.Signer(key.Public)
	if err != nil {
		return err
	}
	csr, err := hsm.CSR(signer, site)
	if err != nil {
		return err
	}
	if out != "" {
		if err := os.WriteFile(out, csr, 0o644); err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
	}
	result := struct {
		Site    string  `json:"site"`
		Key     keyView `json:"key"`
		File    *string `json:"file"`
		Request string  `json:"request"` // PEM
	}{site, viewKey(key), cli.TextOrNil(out), string(csr)}
	return p.Print(result, func(t *cli.Table) {
		if out == "" {
			t.Block(strings.TrimSuffix(result.Request, "\n"))
			return
		}
		t.Row("site", site)
		result.Key.tell(t)
		t.Row("request", out)
		t.Line("Send the request to the CA's staff, and read them the fingerprint by another way.")
	})
}

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
	odd, err := token.Oddities() // why there is none, or more than one
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
