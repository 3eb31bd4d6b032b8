package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/cmd/ocspctl/internal/settings"
	"ocspfleet/db"
	"ocspfleet/hsm"
	"ocspfleet/ops/config"
	"ocspfleet/ops/issuance"
)

// Keys opens each token once, for all issuers with keys in it.
type Keys struct {
	program *cli.Program
	config  *settings.Settings
	tokens  map[config.Token]*hsm.Token
}

// NewKeys returns Keys with no token open.
func NewKeys(p *cli.Program, c *settings.Settings) *Keys {
	return &Keys{program: p, config: c, tokens: map[config.Token]*hsm.Token{}}
}

// Close closes the tokens.
func (k *Keys) Close() error {
	var faults []error
	for _, t := range k.tokens {
		faults = append(faults, t.Close())
	}
	return errors.Join(faults...)
}

// authority opens one CA.
func (k *Keys) authority(ctx context.Context, issuer db.Issuer, at config.CA) (*issuance.Authority, error) {
	fail := func(err error) (*issuance.Authority, error) {
		return nil, fmt.Errorf("taking up the CA of issuer %q: %w", issuer.Name, err)
	}
	var certificate *x509.Certificate
	var err error
	if at.Certificate != "" {
		certificate, err = ctl.ReadCertificate(at.Certificate)
	} else {
		certificate, err = x509.ParseCertificate(issuer.Certificate)
	}
	if err != nil {
		return fail(err)
	}
	key, err := k.Key(ctx, at, certificate)
	if err != nil {
		return fail(err)
	}
	return issuance.NewAuthority(issuer, certificate, key, settings.Rules(at), settings.Ledger(at), k.program.Now())
}

// Key finds the CA's private key: in a file, or in a token by the public key of the
// certificate.
func (k *Keys) Key(ctx context.Context, at config.CA, certificate *x509.Certificate) (crypto.Signer, error) {
	if at.Token == (config.Token{}) {
		return ctl.ReadKey(at.Key)
	}
	opened := k.tokens[at.Token]
	if opened == nil {
		stateDir, err := k.config.StateFolder()
		if err != nil {
			return nil, err
		}
		open, err := settings.Token(at.Token, stateDir)
		if err != nil {
			return nil, err
		}
		if opened, err = hsm.Open(ctx, hsm.Config{Config: open, Logger: boot.NewLogger(k.program.Stderr, k.program.TTY, slog.LevelWarn)}); err != nil {
			return nil, err
		}
		k.tokens[at.Token] = opened
	}
	key, err := opened.Signer(certificate.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("finding the key of %q in the token: %w", certificate.Subject, err)
	}
	return key, nil
}
