package cert

import (
	"bufio"
	"context"
	"fmt"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/tables"
)

// list is cert list.
type list struct {
	Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
	Status string `flag:"status" help:"only these: <good|revoked|hold|expired> (default: all)"`
	Since  string `flag:"since" help:"only what was revoked at this <TIME> or later, such as 2026-11-01 or 2026-11-01T08:00:00Z"`
	Limit  int64  `flag:"limit" help:"at most <N> (default: all)"`

	choice tables.Choice
}

func (list) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "list an issuer's certificates by serial",
		Long: `The list is written as it comes from the database, whatever its length. good is
neither revoked nor expired; revoked is for ever; hold is certificateHold. With
--since only what was revoked or put on hold then or later is listed.`,
		Example: `
		ocspctl cert list --issuer web-ca --status revoked --since 2026-11-01
		ocspctl cert list --issuer web-ca --status hold --output json`,
	}
}

// Check reads the choice.
func (v *list) Check() (err error) {
	v.choice = tables.Choice{Kind: tables.Kind(v.Status), Limit: v.Limit}
	if !slices.Contains([]tables.Kind{tables.KindAny, tables.KindGood, tables.KindRevoked, tables.KindHold, tables.KindExpired}, v.choice.Kind) {
		return cli.Usagef("--status %q: want one of good, revoked, hold, expired", v.Status)
	}
	if v.Limit < 0 {
		return cli.Usagef("--limit %d: want 0 (all) or more", v.Limit)
	}
	if v.Since == "" {
		return nil
	}
	if v.choice.Since, err = cli.ParseTime(v.Since); err == nil && v.choice.Kind == tables.KindGood {
		err = cli.Usagef("--since goes with revocations: a good certificate has no time of change")
	}
	return err
}

// row returns a certificate in the list.
func row(c ctl.Certificate) cli.Record {
	return cli.Record{
		cli.F("issuer", "", c.Issuer), cli.F("serial", "SERIAL", c.Serial), cli.F("status", "STATUS", c.Status),
		cli.F("not_after", "NOT AFTER", c.NotAfter), cli.F("revoked_at", "REVOKED AT", c.RevokedAt), cli.F("reason", "REASON", c.Reason),
	}
}

func (v *list) Run(ctx context.Context, m *ctl.Master) error {
	issuer, err := m.Issuer(ctx, v.Issuer)
	if err != nil {
		return err
	}
	v.choice.Issuer = issuer.ID
	out := bufio.NewWriter(m.Stdout)
	rows, err := m.NewStream(out, "certificates", row(ctl.Certificate{}), []int{40, 7, 20, 20, 20}, 20)
	if err == nil {
		err = m.Store.List(ctx, v.choice, func(_ db.IssuerID, serial db.Serial, status db.Status) error {
			return rows.Row(row(ctl.ShowStatus(issuer.Name, serial, status)))
		})
	}
	if err != nil {
		return err
	}
	if err = rows.End(); err == nil {
		err = out.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}
