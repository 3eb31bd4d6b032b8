package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/ingest"
)

func (p *program) certImportCommand() *cobra.Command {
	var c change
	var from, issuer string
	cmd := p.verb("import FILE", "bring an issuer's certificates from another program; never takes a revocation back", `
		ocspctl cert import --from openssl-index --issuer web-ca index.txt
		ocspctl cert import --from openssl-index --issuer web-ca index.txt --apply`,
		cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			if from != "openssl-index" {
				return usagef("--from %q: want openssl-index", from)
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certImport(ctx, store, c, issuer, args[0]) })
		})
	cmd.Flags().StringVar(&from, "from", "", "what the file is: `openssl-index` (the index.txt of openssl ca)")
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's `NAME`: the file does not say it")
	c.flags(cmd)
	require(cmd, "from", "issuer")
	return cmd
}

// effectNames are what the JSON says; effectTexts what people read.
var (
	effects     = []db.Effect{db.ImportNew, db.ImportRevoke, db.ImportPermanent, db.ImportSame, db.ImportKept, db.ImportDetail, db.ImportOtherEnd}
	effectNames = map[db.Effect]string{
		db.ImportNew: "new", db.ImportRevoke: "revoke", db.ImportPermanent: "hold_to_permanent", db.ImportSame: "same",
		db.ImportKept: "kept_revoked", db.ImportDetail: "other_time_or_reason", db.ImportOtherEnd: "other_not_after",
	}
	effectTexts = map[db.Effect]string{
		db.ImportNew: "new: inserted", db.ImportRevoke: "good here, revoked there: revoked", db.ImportPermanent: "on hold here, revoked there: revoked for ever",
		db.ImportSame: "the same", db.ImportKept: "revoked here, not so there: LEFT REVOKED",
		db.ImportDetail: "revoked in both, other time or reason: LEFT", db.ImportOtherEnd: "ANOTHER END OF VALIDITY: nothing is imported",
	}
)

type importView struct {
	outcome
	Issuer      string           `json:"issuer"`
	File        string           `json:"file"`
	SHA256      string           `json:"sha256"`
	Rows        int64            `json:"rows"`
	Repeated    int64            `json:"repeated"`
	Counts      map[string]int64 `json:"counts"`
	Differences []difference     `json:"differences"` // the first 20
	Inserted    int64            `json:"inserted"`
	Revoked     int64            `json:"revoked"`
}

type difference struct {
	Line   int64       `json:"line"`
	Effect string      `json:"effect"`
	Source certificate `json:"source"`
	Master certificate `json:"master"`
}

func (p *program) certImport(ctx context.Context, store *db.Store, c change, issuerName, path string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	issuer, err := issuerNamed(ctx, store, issuerName)
	if err != nil {
		return err
	}
	index, err := ingest.OpenIndex(ctx, path, ingest.Rules{Now: p.now(), Profile: issuer.Policy.Profile})
	if err != nil {
		return err
	}
	defer index.Close()
	plan, err := index.Plan(ctx, store, issuer, p.progress("comparing"))
	if err != nil {
		return err
	}
	view := viewImport(plan, index, issuer.Name)
	if c.apply && plan.Refusal() == nil {
		done, err := plan.Apply(ctx, store, act, p.progress("importing"))
		if err != nil {
			return err
		}
		view.Applied, view.Inserted, view.Revoked = true, done.Inserted, done.Revoked
	}
	if err := p.print(view, func(t *table) { view.tell(t, plan) }); err != nil {
		return err
	}
	switch err := plan.Refusal(); {
	case err != nil:
		return wrongf("%v", err)
	case plan.Conflicts() > 0:
		return wrongf("%d certificates are not as %s says, and stay so", plan.Conflicts(), index.Name)
	}
	return nil
}

func viewImport(plan *ingest.Plan, index *ingest.Index, issuer string) importView {
	view := importView{
		outcome: outcome{"cert import", false, plan.Writes() > 0},
		Issuer:  issuer, File: index.Name, SHA256: fmt.Sprintf("%x", index.SHA256), Rows: plan.Rows, Repeated: plan.Repeated,
		Counts: map[string]int64{}, Differences: []difference{},
	}
	for _, effect := range effects {
		view.Counts[effectNames[effect]] = plan.Counts[effect]
	}
	for _, d := range plan.First {
		here := certificate{Issuer: issuer, Serial: d.Serial.String(), Status: "never_issued"}
		if d.Effect != db.ImportNew {
			here = showStatus(issuer, d.Serial, d.Here)
		}
		view.Differences = append(view.Differences, difference{d.Line, effectNames[d.Effect], showStatus(issuer, d.Serial, d.Source), here})
	}
	return view
}

func (v importView) tell(t *table, plan *ingest.Plan) {
	t.row("file", v.File)
	t.row("sha256", v.SHA256)
	t.row("issuer", v.Issuer)
	t.row("rows", strconv.FormatInt(v.Rows, 10))
	if v.Repeated > 0 {
		t.row("repeated lines", strconv.FormatInt(v.Repeated, 10))
	}
	for _, effect := range effects {
		if n := plan.Counts[effect]; n > 0 {
			t.row(effectTexts[effect], strconv.FormatInt(n, 10))
		}
	}
	if len(v.Differences) > 0 {
		t.line("")
		t.row("LINE", "SERIAL", "FILE SAYS", "MASTER SAYS", "EFFECT")
		for i, d := range v.Differences {
			t.row(strconv.FormatInt(d.Line, 10), d.Source.Serial, d.Source.brief(), d.Master.brief(), effectTexts[plan.First[i].Effect])
		}
		t.line("")
	}
	if v.Applied {
		t.row("inserted", strconv.FormatInt(v.Inserted, 10))
		t.row("revoked", strconv.FormatInt(v.Revoked, 10))
	}
	if plan.Refusal() != nil {
		t.line("Nothing was done.")
		return
	}
	v.outcome.tell(t)
}

// brief is a status in one cell.
func (c certificate) brief() string {
	switch {
	case c.Status == "never_issued":
		return "nothing"
	case c.RevokedAt == nil:
		return c.Status + " until " + orDash(c.NotAfter)
	default:
		return c.Status + " " + *c.RevokedAt + " " + orDash(c.Reason)
	}
}

// progress tells on stderr how far a long pass is: a line that renews itself on
// a terminal, else a line of its own each 10 s. It says nothing of short passes.
func (p *program) progress(what string) func(ingest.Progress) {
	const firstAfter, each = 2 * time.Second, 10 * time.Second
	last := time.Duration(0)
	shown := false
	return func(g ingest.Progress) {
		finished := g.Done >= g.Total
		if p.tty {
			if g.Elapsed > firstAfter || shown {
				shown = true
				fmt.Fprintf(p.stderr, "\r%s: %d of %d, %.0f rows/s, %s left   ", what, g.Done, g.Total, g.Rate(), g.Left().Round(time.Second))
			}
			if finished && shown {
				fmt.Fprintln(p.stderr)
			}
			return
		}
		if g.Elapsed-last >= each {
			last = g.Elapsed
			fmt.Fprintf(p.stderr, "%s: %d of %d rows, %.0f rows/s, %s left\n", what, g.Done, g.Total, g.Rate(), g.Left().Round(time.Second))
		}
	}
}
