package cert

import (
	"context"
	"errors"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("cert", "the status of single certificates, and imports",
		ctl.AtMaster(&issue{}), ctl.AtMaster(&revoke{waiting: aMinute, Reason: "unspecified"}), ctl.AtMaster(&hold{waiting: aMinute}), ctl.AtMaster(&release{waiting: aMinute}),
		ctl.AtMaster(&correct{}), ctl.AtMaster(&show{}), ctl.AtMaster(&list{}), ctl.AtMaster(&importing{source: plainSource}), ctl.AtMaster(&export{Form: "csv"}),
		ctl.AtMaster(&reconcile{source: plainSource}))
}

// named names a certificate.
type named struct {
	Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
	Serial string `flag:"serial,required" help:"the serial as openssl x509 -serial prints it (<HEX>, colons allowed)"`
}

// certificate is a certificate that was found by its names.
type certificate struct {
	issuer db.Issuer
	serial db.Serial
}

func (n named) find(ctx context.Context, m *ctl.Master) (certificate, error) {
	serial, err := db.ParseSerial(n.Serial)
	if err != nil {
		return certificate{}, cli.Usagef("--serial: %v", err)
	}
	issuer, err := m.Issuer(ctx, n.Issuer)
	return certificate{issuer, serial}, err
}

func (c certificate) shown(s db.Status) ctl.Certificate {
	return ctl.ShowStatus(c.issuer.Name, c.serial, s)
}

// show is cert show.
type show struct{ named }

func (show) Doc() cli.Doc {
	return cli.Doc{
		Name: "show", Short: "show what the master says of a certificate",
		Long:    `Shows the master's row. What a site answers shows fleet status, or openssl ocsp.`,
		Example: "ocspctl cert show --issuer web-ca --serial 5F03A1",
	}
}

func (v *show) Run(ctx context.Context, m *ctl.Master) error {
	c, err := v.find(ctx, m)
	if err != nil {
		return err
	}
	status, err := m.Store.Certificate(ctx, c.issuer.ID, c.serial)
	switch {
	case errors.Is(err, db.ErrNotIssued):
		return m.Show(ctl.NeverIssued(c.issuer.Name, c.serial).Record())
	case err != nil:
		return err
	}
	return m.Show(c.shown(status).Record())
}
