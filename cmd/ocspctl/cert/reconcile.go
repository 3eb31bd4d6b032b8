package cert

import (
	"cmp"
	"context"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest"
)

// reconcile is cert reconcile.
type reconcile struct{ source }

func (reconcile) Doc() cli.Doc {
	return cli.Doc{
		Name: "reconcile", Short: "compare the master with the CA's own records, both ways",
		Long: `It lists what the file has and the master has not, what the master has and the
file has not, and where their status differs, and writes nothing: for cron, each
night. It ends with code 3 when anything differs, or when a CRL is past its
nextUpdate, which proves nothing of today. All parts of a CRL that is issued in
parts go into one call.

Not counted as differences: a CRL's silence on certificates that are not revoked,
that are expired, or that were revoked after it was made; expired certificates
that the file does not have any more; the sites' own certificates, which ocspctl
issues and the CA's database may not know; certificates of sites that are planned
and not signed yet.`,
		Example: `
		ocspctl cert reconcile --from openssl-index --issuer web-ca index.txt
		ocspctl cert reconcile --from crl --issuer web-ca web-ca.crl --output json`,
	}
}

// reconcileTexts name a row's effect as a difference.
var reconcileTexts = map[masterdb.Effect]string{
	masterdb.ImportNew: "in the file, NOT AT THE MASTER", masterdb.ImportNoEnd: "revoked in the file, NOT AT THE MASTER",
	masterdb.ImportRevoke: "revoked in the file, GOOD AT THE MASTER", masterdb.ImportPermanent: "revoked in the file, on hold at the master",
	masterdb.ImportKept: "revoked at the master, not so in the file", masterdb.ImportDetail: "revoked in both, other time or reason",
	masterdb.ImportReason: "keyCompromise in the file, another reason at the master", masterdb.ImportOtherEnd: "another end of validity", masterdb.ImportSame: "the same",
	masterdb.ImportEnd: "the end at the master was a guess (--not-after), the file's is later", masterdb.ImportGuessed: "the same; the end at the master was a guess, and is later",
}

func (v *reconcile) Run(ctx context.Context, m *ctl.Master) error {
	o, err := v.options(ctx, m)
	if err != nil {
		return err
	}
	return v.judge(ctx, m, o, func(file *ingest.File) error {
		c, err := file.Reconcile(ctx, progress(m, "comparing"))
		if err != nil {
			return err
		}
		if err := v.show(m, file, c); err != nil {
			return err
		}
		switch {
		case c.Different() > 0:
			return cli.Wrongf("%d certificates of issuer %q differ from %s", c.Different(), v.Issuer, file.Name)
		case len(c.Ended) > 0:
			return cli.Wrongf("the CRL ended at %s (nextUpdate): it proves nothing of today", cli.Stamp(c.Ended[0].NextUpdate))
		}
		return v.leftOut(file)
	})
}

// alone counts the certificates that only the master has, each kind with its text for people.
type alone struct {
	key, text string
	n         int64
}

// show prints the content of the file and its differences from the master.
func (v *reconcile) show(m *ctl.Master, file *ingest.File, c *ingest.Comparison) error {
	differences := differencesOf(c.Plan, v.Issuer)
	atMaster := make([]ctl.Certificate, len(c.FirstHere))
	for i, here := range c.FirstHere {
		atMaster[i] = ctl.ShowStatus(v.Issuer, here.Serial, here.Status)
	}
	only := cli.Record{}
	for _, a := range []alone{
		{"only_master", "at the master, NOT IN THE FILE", c.Missing.Rows},
		{"only_master_expired", "at the master alone, expired: no difference", c.Expired},
		{"only_master_newer_than_crl", "at the master alone, revoked after the CRL was made: no difference", c.Newer},
		{"only_master_sites_own", "at the master alone, a site's own: no difference", c.Own},
	} {
		only = append(only, cli.Some(a.key, a.text, a.n))
	}
	return m.Show(
		fileRecord(file, c.Plan, v.Issuer), cli.Record{cli.F("identical", "", c.Different() == 0)}, counted(c.Plan, reconcileTexts), only,
		cli.Said(func(t *cli.Table) {
			for _, crl := range c.Ended {
				t.Row("ENDED (nextUpdate): "+cmp.Or(crl.Name, file.Name), cli.Stamp(crl.NextUpdate))
			}
			if n := len(file.CRLs); c.Missing.Rows > 0 && n > 0 && file.CRLs[0].Shard+file.CRLs[n-1].Shard != "" {
				t.Line("The CRL is issued in parts: were all of them given?")
			}
		}),
		notes(file),
		cli.Record{
			cli.F("differences", "", cli.Records(differences, difference.record)), // the first 20 that the file has
			cli.F("at_master", "", cli.Records(atMaster, ctl.Certificate.Record)), // the first 20 that the file has not
		},
		cli.Said(func(t *cli.Table) {
			if len(differences)+len(atMaster) > 0 {
				t.Line("")
				t.Row("PLACE", "SERIAL", "FILE SAYS", "MASTER SAYS")
				for _, d := range differences {
					t.Row(d.place, d.source.Serial, d.source.Brief(), d.master.Brief())
				}
				for _, here := range atMaster {
					t.Row("-", here.Serial, "nothing", here.Brief())
				}
				t.Line("")
			}
			if c.Different() == 0 && len(c.Ended) == 0 && file.Bad == 0 {
				t.Line("File and master agree.")
			}
		}))
}
