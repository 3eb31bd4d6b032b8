package main

import (
	"cmp"
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/ingest"
)

func (p *program) certReconcileCommand() *cobra.Command {
	var f source
	cmd := p.verb("reconcile FILE...", "compare the master with the CA's own records, both ways", `
		ocspctl cert reconcile --from openssl-index --issuer web-ca index.txt
		ocspctl cert reconcile --from crl --issuer web-ca web-ca.crl --output json`,
		cobra.MinimumNArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certReconcile(ctx, store, f, args) })
		})
	cmd.Long = `It lists what the file has and the master has not, what the master has and the
file has not, and where their status differs, and writes nothing: for cron, each
night. It ends with code 3 when anything differs, or when a CRL is past its
nextUpdate, which proves nothing of today. All parts of a CRL that is issued in
parts go into one call.

Not counted as differences: a CRL's silence on certificates that are not revoked,
that are expired, or that were revoked after it was made; expired certificates
that the file does not have any more; the sites' own certificates, which ocspctl
issues and the CA's database may not know; certificates of sites that are planned
and not signed yet.`
	f.flags(cmd)
	f.olderCRL = true
	return cmd
}

type reconcileView struct {
	fileView
	Identical   bool             `json:"identical"`
	Counts      map[string]int64 `json:"counts"`
	OnlyMaster  int64            `json:"only_master"`
	Expired     int64            `json:"only_master_expired"`
	Newer       int64            `json:"only_master_newer_than_crl"`
	Sites       int64            `json:"only_master_sites_own"`
	Differences []difference     `json:"differences"` // the first 20 that the file has
	AtMaster    []certificate    `json:"at_master"`   // the first 20 that the file has not
}

// reconcileTexts say what a row's effect would be as what it is.
var reconcileTexts = map[db.Effect]string{
	db.ImportNew: "in the file, NOT AT THE MASTER", db.ImportNoEnd: "revoked in the file, NOT AT THE MASTER",
	db.ImportRevoke: "revoked in the file, GOOD AT THE MASTER", db.ImportPermanent: "revoked in the file, on hold at the master",
	db.ImportKept: "revoked at the master, not so in the file", db.ImportDetail: "revoked in both, other time or reason",
	db.ImportReason: "keyCompromise in the file, another reason at the master", db.ImportOtherEnd: "another end of validity", db.ImportSame: "the same",
	db.ImportEnd: "the end at the master was a guess (--not-after), the file's is later", db.ImportGuessed: "the same; the end at the master was a guess, and is later",
}

func (p *program) certReconcile(ctx context.Context, store *db.Store, f source, paths []string) error {
	return p.judged(ctx, store, f, paths, func(file *ingest.File, issuer db.Issuer) error {
		c, err := file.Reconcile(ctx, p.progress("comparing"))
		if err != nil {
			return err
		}
		v := reconcileView{
			fileView: viewFile(file, c.Plan, issuer.Name), Identical: c.Different() == 0, Counts: countsOf(c.Plan),
			OnlyMaster: c.Missing.Rows, Expired: c.Expired, Newer: c.Newer, Sites: c.Own,
			Differences: viewDifferences(c.Plan, issuer.Name), AtMaster: []certificate{},
		}
		for _, m := range c.FirstHere {
			v.AtMaster = append(v.AtMaster, showStatus(issuer.Name, m.Serial, m.Status))
		}
		if err := p.print(v, func(t *table) { v.tell(t, c) }); err != nil {
			return err
		}
		switch {
		case !v.Identical:
			return wrongf("%d certificates of issuer %q differ from %s", c.Different(), issuer.Name, file.Name)
		case len(c.Ended) > 0:
			return wrongf("the CRL ended at %s (nextUpdate): it proves nothing of today", stamp(c.Ended[0].NextUpdate))
		}
		return leftOut(file, f)
	})
}

func (v reconcileView) tell(t *table, c *ingest.Comparison) {
	v.fileView.tell(t)
	for _, effect := range effects {
		if n := c.Counts[effect]; n > 0 {
			t.row(reconcileTexts[effect], strconv.FormatInt(n, 10))
		}
	}
	for _, here := range []struct {
		text string
		n    int64
	}{
		{"at the master, NOT IN THE FILE", v.OnlyMaster},
		{"at the master alone, expired: no difference", v.Expired},
		{"at the master alone, revoked after the CRL was made: no difference", v.Newer},
		{"at the master alone, a site's own: no difference", v.Sites},
	} {
		if here.n > 0 {
			t.row(here.text, strconv.FormatInt(here.n, 10))
		}
	}
	for _, crl := range c.Ended {
		t.row("ENDED (nextUpdate): "+cmp.Or(crl.Name, v.File), stamp(crl.NextUpdate))
	}
	if v.OnlyMaster > 0 && len(v.CRLs) > 0 && v.CRLs[0].Shard+v.CRLs[len(v.CRLs)-1].Shard != "" {
		t.line("The CRL is issued in parts: were all of them given?")
	}
	v.tellNotes(t)
	if len(v.Differences)+len(v.AtMaster) > 0 {
		t.line("")
		t.row("PLACE", "SERIAL", "FILE SAYS", "MASTER SAYS")
		for _, d := range v.Differences {
			t.row(d.Place, d.Source.Serial, d.Source.brief(), d.Master.brief())
		}
		for _, m := range v.AtMaster {
			t.row("-", m.Serial, "nothing", m.brief())
		}
		t.line("")
	}
	if v.Identical && len(c.Ended) == 0 && v.Bad == 0 {
		t.line("File and master agree.")
	}
}
