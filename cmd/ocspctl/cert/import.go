package cert

import (
	"context"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/ops/ingest"
)

// importing is cert import.
type importing struct {
	cli.Change
	source
	NotAfter string `flag:"not-after" help:"the end (<TIME>) to register for revoked certificates that the master does not know and the file tells no end of (crl, step-ca); without it they are left out"`
	OlderCRL bool   `flag:"older-crl" help:"take a CRL though a newer one was imported before"`
}

func (importing) Doc() cli.Doc {
	return cli.Doc{
		Name: "import", Short: "bring an issuer's certificates from another program; never takes a revocation back",
		Long: `The whole file is read once and judged first: one bad row, and nothing is done. Then
the plan is shown: what is new, what becomes revoked, and what the master knows otherwise and
keeps, since an import never takes a revocation back and never changes the end of
a certificate. --apply does it, in transactions of 5,000 rows; broken off at any
point, it is resumed by running it again, and a rerun of a finished one does
nothing. The sum of the file stands in the audit.

It ends with code 3 when the file and the master do not agree on some row, when
rows are pending (the source was asked to revoke them and has not), when odd
entries were left out (--skip-bad), and when rows of EJBCA were skipped as
another issuer's beside others that were taken.

Several CRLs, in one file or in several, are taken as one list, in the order of
their numbers: all parts of a CRL that is issued in parts go into one call.

Distribution points that its certificates or the CRL name are shown: they belong
into forbidden_urls of the CA's own configuration (docs/identities.md).

docs/import.md tells how to get a file of each form.`,
		Example: `
		ocspctl cert import --from openssl-index --issuer web-ca index.txt
		ocspctl cert import --from openssl-index --issuer web-ca index.txt --why 'first import' --apply
		ocspctl cert import --from crl --issuer web-ca part0.crl part1.crl --apply
		ocspctl cert import --from cacert --issuer class3 --rootcert 2 --timezone Australia/Sydney --errors bad.csv dump.sql
		ocspctl cert import --from certificates --issuer web-ca newcerts/ --apply`,
	}
}

func (v *importing) Run(ctx context.Context, m *ctl.Master) error {
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	o, err := v.options(ctx, m)
	if err == nil && v.NotAfter != "" {
		o.NotAfter, err = cli.ParseTime(v.NotAfter)
	}
	if err == nil && v.From == "crl" && !v.OlderCRL {
		o.LastCRLs, err = m.Store.CRLNumbers(ctx, o.Issuer.ID)
	}
	if err != nil {
		return err
	}
	return v.judge(ctx, m, o, func(file *ingest.File) error {
		plan, err := file.Plan(ctx, progress(m, "comparing"))
		if err != nil {
			return err
		}
		limit, err := ctl.LimitOf(ctx, m.Store, plan.Limited())
		if err != nil {
			return err
		}
		if v.Apply && plan.Refusal() == nil && limit.Refused != nil {
			return fmt.Errorf("importing %s, nothing was done: %w", file.Name, limit.Refused)
		}
		outcome := v.Outcome(plan.Writes() > 0)
		outcome.Applied = v.Apply && plan.Refusal() == nil
		var done ingest.Result
		if outcome.Applied {
			if done, err = plan.Apply(ctx, m.Store, act, progress(m, "importing")); err != nil {
				return err
			}
		}
		if err := v.show(m, outcome, file, plan, limit, done); err != nil {
			return err
		}
		switch err := plan.Refusal(); {
		case err != nil:
			return cli.Wrongf("%v", err)
		case plan.Conflicts() > 0:
			return cli.Wrongf("%d certificates are not as %s says, and stay so", plan.Conflicts(), file.Name)
		case file.Pending > 0:
			return cli.Wrongf("%d certificates are pending: the source was asked to revoke them and has not", file.Pending)
		}
		return v.leftOut(file)
	})
}

// show prints the content of the file, its effects, and what was done.
func (v *importing) show(m *ctl.Master, outcome cli.Outcome, file *ingest.File, plan *ingest.Plan, limit ctl.Limit, done ingest.Result) error {
	differences := differencesOf(plan, v.Issuer)
	return m.Show(
		cli.Quiet(outcome), fileRecord(file, plan, v.Issuer), counted(plan, effectTexts), notes(file),
		cli.Said(func(t *cli.Table) {
			if len(differences) == 0 {
				return
			}
			t.Line("")
			t.Row("PLACE", "SERIAL", "FILE SAYS", "MASTER SAYS", "EFFECT")
			for _, d := range differences {
				t.Row(d.place, d.source.Serial, d.source.Brief(), d.master.Brief(), effectTexts[d.effect])
			}
			t.Line("")
		}),
		cli.Record{
			cli.F("differences", "", cli.Records(differences, difference.record)), cli.F("limit", "", limit),
			cli.F("inserted", "", done.Inserted), cli.F("revoked", "", done.Revoked),
		},
		cli.Said(func(t *cli.Table) {
			if limit.Refused != nil && plan.Refusal() == nil {
				t.Line("OVER THE LIMIT: " + limit.Refused.Error())
			}
			if outcome.Applied {
				t.Row("inserted", fmt.Sprint(done.Inserted))
				t.Row("revoked", fmt.Sprint(done.Revoked))
			}
			if plan.Refusal() != nil || plan.Writes() == 0 && plan.Conflicts()+file.Pending+file.Bad > 0 { // there is something to do
				t.Line("Nothing was done.")
				return
			}
			outcome.Tell(t)
		}))
}
