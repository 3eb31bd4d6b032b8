package issuer

import (
	"context"
	"crypto/x509"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/issuance"
)

// add is issuer add.
type add struct {
	cli.Change
	Name string `flag:"name,required" help:"the staff's <NAME> for it, for ever"`
	Cert string `flag:"cert,required" help:"the CA's certificate, PEM or DER, in <FILE>"`
	policy

	certificate *x509.Certificate
}

func (add) Doc() cli.Doc {
	return cli.Doc{
		Name: "add", Short: "put an issuer on the master, with the policy of its answers",
		Long: `An issuer is one CA key under one name. Its policy travels with it, so that every
site answers alike. A site serves it once ocspd's configuration pins it, too.`,
		Example: `
		ocspctl issuer add --name web-ca --cert web-ca.pem
		ocspctl issuer add --name web-ca --cert web-ca.pem --validity 72h --never-issued unknown --profile revocable --apply`,
	}
}

// Check refuses a faulty policy if the master would not find the fault, and reads the certificate.
func (v *add) Check() error {
	err := checkPolicy(v.settle())
	if err == nil {
		v.certificate, err = ctl.ReadCertificate(v.Cert)
	}
	return err
}

func (v *add) Run(ctx context.Context, m *ctl.Master) error {
	if err := issuance.CheckCA(v.certificate, m.Now()); err != nil {
		return fmt.Errorf("adding issuer %q: %s: %w", v.Name, v.Cert, err)
	}
	issuer := db.Issuer{Key: db.IssuerKey(v.certificate), Name: v.Name, Certificate: v.certificate.Raw, Policy: v.settle()}
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (bool, error) {
		found, err := find(ctx, store, &issuer)
		if found || err != nil {
			return false, err
		}
		issuer.Policy.Version = 1
		id, err := store.AddIssuer(ctx, issuer, act)
		if v.Apply { // a plan does not know it yet
			issuer.ID = id
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return m.ShowChange(outcome, cli.Object("issuer", record(issuer)))
}

// find looks for an identical issuer at the master, and takes its number and version from there.
// The master itself refuses a different one.
func find(ctx context.Context, store *masterdb.DB, issuer *db.Issuer) (bool, error) {
	issuers, err := store.Issuers(ctx)
	for _, there := range issuers {
		policy := there.Policy
		policy.Version = issuer.Policy.Version
		if there.Key == issuer.Key && there.Name == issuer.Name && policy == issuer.Policy {
			*issuer = there
			return true, nil
		}
	}
	return false, err
}
