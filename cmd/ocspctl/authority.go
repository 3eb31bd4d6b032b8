package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/hsm"
	"ocspfleet/ops/fleet"
)

// withAuthorities takes up the CA keys of the issuers named, or of all that the
// master has, and lets do sign with them. It fails before anything is signed if
// one is not at hand.
func (p *program) withAuthorities(ctx context.Context, store *masterdb.DB, cfg *config.Config, names []string, do func([]*fleet.Authority) error) error {
	return p.withAuthoritiesAtHand(ctx, store, cfg, names, func(authorities []*fleet.Authority, elsewhere []db.Issuer, fault error) error {
		if fault == nil && len(elsewhere) > 0 {
			fault = fmt.Errorf("the configuration names no CA key for issuer %q: set issuers.%s, or choose others with --issuer", elsewhere[0].Name, elsewhere[0].Name)
		}
		if fault != nil {
			return fault
		}
		return do(authorities)
	})
}

// withAuthoritiesAtHand is withAuthorities for who goes on without some: do is told, too,
// which issuers have their key elsewhere, and why keys that belong here were not taken up.
func (p *program) withAuthoritiesAtHand(ctx context.Context, store *masterdb.DB, cfg *config.Config, names []string, do func(at []*fleet.Authority, elsewhere []db.Issuer, fault error) error) error {
	issuers, err := ctl.IssuersNamed(ctx, store, names)
	if err != nil {
		return err
	}
	keys := newCAKeys(p, cfg)
	var authorities []*fleet.Authority
	var elsewhere []db.Issuer
	var faults []error
	for _, issuer := range issuers {
		at, ours := cfg.Issuers[issuer.Name]
		if !ours {
			elsewhere = append(elsewhere, issuer)
			continue
		}
		authority, err := keys.authority(ctx, issuer, at)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		authorities = append(authorities, authority)
	}
	return errors.Join(do(authorities, elsewhere, errors.Join(faults...)), keys.close())
}

// keysElsewhere is what the verbs end with that did all they could; nil: that was all.
func keysElsewhere(action string, issuers []db.Issuer) error {
	if len(issuers) == 0 {
		return nil
	}
	names := make([]string, len(issuers))
	for i, issuer := range issuers {
		names[i] = issuer.Name
	}
	return cli.Wrongf("no %s for %s: their CA keys are not in this configuration (issuers.NAME); --issuer chooses those that are", action, strings.Join(names, ", "))
}

// caKeys opens each token once, however many issuers' keys lie in it.
type caKeys struct {
	program *program
	cfg     *config.Config
	tokens  map[config.Token]*hsm.Token
}

func newCAKeys(p *program, cfg *config.Config) *caKeys {
	return &caKeys{program: p, cfg: cfg, tokens: map[config.Token]*hsm.Token{}}
}

func (k *caKeys) close() error {
	var faults []error
	for _, t := range k.tokens {
		faults = append(faults, t.Close())
	}
	return errors.Join(faults...)
}

// authority takes up one CA.
func (k *caKeys) authority(ctx context.Context, issuer db.Issuer, at config.CA) (*fleet.Authority, error) {
	fail := func(err error) (*fleet.Authority, error) {
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
	key, err := k.key(ctx, at, certificate)
	if err != nil {
		return fail(err)
	}
	return fleet.NewAuthority(issuer, certificate, key, at.Rules(), at.Ledger(), k.program.Now())
}

// key finds the CA's private key: in a file, or in a token by the public key of
// the certificate.
func (k *caKeys) key(ctx context.Context, at config.CA, certificate *x509.Certificate) (crypto.Signer, error) {
	if at.Token == (config.Token{}) {
		return ctl.ReadKey(at.Key)
	}
	opened := k.tokens[at.Token]
	if opened == nil {
		stateDir, err := k.cfg.StateFolder()
		if err != nil {
			return nil, err
		}
		settings, err := at.Token.Settings(stateDir)
		if err != nil {
			return nil, err
		}
		settings.Logger = boot.NewLogger(k.program.Stderr, k.program.TTY, slog.LevelWarn)
		if opened, err = hsm.Open(ctx, settings); err != nil {
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

// lintError turns the lint's faults into the error that a plan ends with.
func lintError(issuer string, faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("checking the planned certificate of issuer %q: %s", issuer, strings.Join(faults, "; "))
}
