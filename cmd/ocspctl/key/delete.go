package key

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/hsm"
	"ocspfleet/migrations"
)

// remove is key delete.
type remove struct {
	Apply bool   `flag:"apply" help:"do it; without it the plan is shown and nothing is done"`
	Label string `arg:"LABEL"`
}

func (remove) Doc() cli.Doc {
	return cli.Doc{
		Name: "delete", Short: "delete a key that no certificate needs any more from the token, for ever",
		Long: `For an old key whose certificates have all ended, or are revoked for ever, in the
site's copy: one on hold counts as in use. What is not known, since the site's database
is away or not configured, is not deleted. A key of a request that the CA has not yet
answered looks unused: leave it.`,
		Example: `
		ocspctl key delete ocsp-site-a-20251122
		ocspctl key delete ocsp-site-a-20251122 --apply`,
	}
}

// Run refuses a key in use; a key that may be in use counts as in use.
func (v *remove) Run(ctx context.Context, r *run) error {
	keys, err := r.token.Keys()
	if err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(k hsm.KeyInfo) bool { return k.Label != v.Label })
	switch {
	case len(keys) == 0:
		return fmt.Errorf("the token holds no key %q: ocspctl key list shows what it holds", v.Label)
	case len(keys) > 1:
		return fmt.Errorf("the token holds %d keys %q: which one is meant is not known: use the token's own tool", len(keys), v.Label)
	case r.config.Database.DSN == "" || r.config.Role != string(migrations.Site):
		return errors.New("whether the key is in use stands in the site's database: set role: site and database.dsn")
	}
	known, err := r.siteCertificates(ctx)
	if err != nil {
		return fmt.Errorf("looking whether the key is in use: %w", err)
	}
	certificates := known[keys[0].Fingerprint]
	for _, c := range certificates {
		if c.needed {
			return fmt.Errorf("key %q is in use: certificate %s of issuer %s is %s until %s", v.Label, c.serial, c.issuer, c.state, cli.Stamp(c.notAfter))
		}
	}
	if v.Apply {
		if err := r.token.DeleteKey(keys[0]); err != nil {
			return err
		}
	}
	text := "none"
	if n := len(certificates); n > 0 {
		text = fmt.Sprintf("%d, each ended or revoked for ever", n)
	}
	of := append(record(keys[0]), cli.Shown("certificates", "certificates", cli.Records(certificates, certificate.record), text))
	return r.ShowChange(cli.NewOutcome("key delete", v.Apply, true), cli.Quiet(cli.Object("key", of)), cli.Said(of.Tell))
}
