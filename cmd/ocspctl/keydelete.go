package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/config"
	"ocspfleet/hsm"
	"ocspfleet/migrations"
)

func (p *program) keyDeleteCommand() *cobra.Command {
	var apply bool
	cmd := p.Command("delete LABEL", "delete a key that no certificate needs any more from the token, for ever", `
		ocspctl key delete ocsp-site-a-20251122
		ocspctl key delete ocsp-site-a-20251122 --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			cfg, err := p.config()
			if err != nil {
				return err
			}
			return p.atToken(ctx, func(token *hsm.Token) error { return p.keyDelete(ctx, cfg, token, args[0], apply) })
		})
	cmd.Flags().BoolVar(&apply, "apply", false, "do it; without it the plan is shown and nothing is done")
	return cmd
}

// keyDelete refuses a key in use; what is not known to be out of use is in use.
func (p *program) keyDelete(ctx context.Context, cfg *config.Config, token *hsm.Token, label string, apply bool) error {
	keys, err := token.Keys()
	if err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(k hsm.KeyInfo) bool { return k.Label != label })
	switch {
	case len(keys) == 0:
		return fmt.Errorf("the token holds no key %q: ocspctl key list shows what it holds", label)
	case len(keys) > 1:
		return fmt.Errorf("the token holds %d keys %q: which one is meant is not known: use the token's own tool", len(keys), label)
	case cfg.Database.DSN == "" || cfg.Role != string(migrations.Site):
		return errors.New("whether the key is in use stands in the site's database: set role: site and database.dsn")
	}
	known, err := p.siteCertificates(ctx, cfg)
	if err != nil {
		return fmt.Errorf("looking whether the key is in use: %w", err)
	}
	one := listedKey{viewKey(keys[0]), append([]keyCertificate{}, known[keys[0].Fingerprint]...)}
	for _, c := range one.Certificates {
		if c.needed {
			return fmt.Errorf("key %q is in use: certificate %s of issuer %s is %s until %s", label, c.Serial, c.Issuer, c.State, c.NotAfter)
		}
	}
	if apply {
		if err := token.DeleteKey(keys[0]); err != nil {
			return err
		}
	}
	result := struct {
		cli.Outcome
		Key listedKey `json:"key"`
	}{cli.NewOutcome("key delete", apply, true), one}
	return p.Print(result, func(t *cli.Table) {
		one.tell(t)
		certificates := "none"
		if n := len(one.Certificates); n > 0 {
			certificates = fmt.Sprintf("%d, each ended or revoked for ever", n)
		}
		t.Row("certificates", certificates)
		result.Outcome.Tell(t)
	})
}
