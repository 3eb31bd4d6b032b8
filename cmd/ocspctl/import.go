package main

import (
	"context"
	"crypto/sha1" //nolint:gosec // what EJBCA names certificates by
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // --timezone works without the system's

	"github.com/spf13/cobra"

	"ocspfleet/db"
	"ocspfleet/ops/ingest"
)

// source holds the flags that say what a file is.
type source struct {
	from, issuer         string
	notAfter, zone       string
	rootCert, serialBase int
	errors               string
	fingerprints         []string
	olderCRL, skipBad    bool
}

func (f *source) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "what the file is: `"+strings.Join(ingest.Forms(), "|")+"`")
	flags.StringVar(&f.issuer, "issuer", "", "the issuer's `NAME` at the master")
	flags.StringVar(&f.zone, "timezone", "UTC", "the time `ZONE` of times that name none (cacert, cfssl), such as Australia/Sydney")
	flags.IntVar(&f.rootCert, "rootcert", 0, "cacert: the `NUMBER` of this issuer in the column rootcert: 1 class 1, 2 (or 3) class 3")
	flags.IntVar(&f.serialBase, "serial-base", 10, "ejbca: serials are written with this `BASE`, 10 or 16")
	flags.StringSliceVar(&f.fingerprints, "fingerprint", nil, "ejbca: rows under this SHA-1 `FINGERPRINT` are the issuer's, too: an earlier certificate of its key; may be given again")
	flags.BoolVar(&f.skipBad, "skip-bad", false, "crl: leave odd entries of a signed CRL out; they are listed and counted, and the code is 3")
	flags.StringVar(&f.errors, "errors", "", "write every row that is bad, skipped, pending or in conflict to `FILE`, as CSV: kind,place,text")
	require(cmd, "from", "issuer")
}

// options reads the flags.
func (f *source) options(now time.Time) (ingest.Options, error) {
	o := ingest.Options{Form: f.from, Now: now, RootCert: f.rootCert, SerialBase: f.serialBase, SkipBad: f.skipBad}
	if !slices.Contains(ingest.Forms(), f.from) {
		return o, usagef("--from %q: want %s", f.from, strings.Join(ingest.Forms(), ", "))
	}
	if f.rootCert == 3 {
		o.RootCert = 2 // class 3 is the column's 2
	}
	if o.RootCert < 0 || o.RootCert > 2 {
		return o, usagef("--rootcert %d: want 1 or 2", f.rootCert)
	}
	if f.serialBase != 10 && f.serialBase != 16 {
		return o, usagef("--serial-base %d: want 10 or 16", f.serialBase)
	}
	if f.skipBad && f.from != "crl" {
		return o, usagef("--skip-bad is for signed CRLs: mend the file")
	}
	for _, text := range f.fingerprints {
		sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(sum) != sha1.Size {
			return o, usagef("--fingerprint %q: want 40 hexadecimal digits, as openssl x509 -fingerprint -sha1 prints them", text)
		}
		o.Fingerprints = append(o.Fingerprints, hex.EncodeToString(sum))
	}
	var err error
	if o.Location, err = time.LoadLocation(f.zone); err != nil {
		return o, usagef("--timezone %q: want a name of the time zone database, such as Europe/Vienna", f.zone)
	}
	if f.notAfter != "" {
		o.NotAfter, err = parseTime(f.notAfter)
	}
	return o, err
}

// judged opens and judges the files, and calls do with it; rows that --errors
// asks for are in their file when it returns, whatever do returns.
func (p *program) judged(ctx context.Context, store *db.Store, f source, paths []string, do func(*ingest.File, db.Issuer) error) (err error) {
	o, err := f.options(p.now())
	if err != nil {
		return err
	}
	if o.Issuer, err = issuerNamed(ctx, store, f.issuer); err != nil {
		return err
	}
	if f.from == "crl" && !f.olderCRL {
		if o.LastCRLs, err = store.CRLNumbers(ctx, o.Issuer.ID); err != nil {
			return err
		}
	}
	if f.errors != "" {
		out, err := os.OpenFile(f.errors, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("opening the file for bad rows: %w", err)
		}
		rows := csv.NewWriter(out)
		_ = rows.Write([]string{"kind", "place", "text"}) // an error stays, and is told by Error
		o.Note = func(n ingest.Note) { _ = rows.Write([]string{string(n.Kind), n.Place.String(), n.Text}) }
		defer func() {
			rows.Flush()
			if failed := errors.Join(rows.Error(), out.Close()); failed != nil {
				err = errors.Join(err, fmt.Errorf("writing the bad rows to %s: %w", f.errors, failed))
			}
		}()
	}
	o.Progress = p.progress("reading")
	file, err := ingest.Open(ctx, store, paths, o)
	if err != nil {
		return err
	}
	defer file.Close()
	return do(file, o.Issuer)
}

func (p *program) certImportCommand() *cobra.Command {
	var c change
	var f source
	cmd := p.verb("import FILE...", "bring an issuer's certificates from another program; never takes a revocation back", `
		ocspctl cert import --from openssl-index --issuer web-ca index.txt
		ocspctl cert import --from openssl-index --issuer web-ca index.txt --why 'first import' --apply
		ocspctl cert import --from crl --issuer web-ca part0.crl part1.crl --apply
		ocspctl cert import --from cacert --issuer class3 --rootcert 2 --timezone Australia/Sydney --errors bad.csv dump.sql
		ocspctl cert import --from certificates --issuer web-ca newcerts/ --apply`,
		cobra.MinimumNArgs(1), func(ctx context.Context, args []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.certImport(ctx, store, c, f, args) })
		})
	cmd.Long = `The whole file is read once and judged first: one bad row, and nothing is done. Then
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

docs/import.md tells how to get a file of each form.`
	f.flags(cmd)
	cmd.Flags().StringVar(&f.notAfter, "not-after", "", "the end (`TIME`) to register for revoked certificates that the master does not know and the file tells no end of (crl, step-ca); without it they are left out")
	cmd.Flags().BoolVar(&f.olderCRL, "older-crl", false, "take a CRL though a newer one was imported before")
	c.flags(cmd)
	return cmd
}

// effectTexts are what people read of the effects; the JSON has their own words.
var (
	effects = []db.Effect{
		db.ImportNew, db.ImportRevoke, db.ImportPermanent, db.ImportReason, db.ImportSame, db.ImportKept, db.ImportDetail, db.ImportOtherEnd, db.ImportEnd, db.ImportGuessed, db.ImportNoEnd,
	}
	effectTexts = map[db.Effect]string{
		db.ImportNew: "new: inserted", db.ImportRevoke: "good here, revoked there: revoked", db.ImportPermanent: "on hold here, revoked there: revoked for ever",
		db.ImportReason: "keyCompromise there, another reason here: becomes keyCompromise", db.ImportSame: "the same",
		db.ImportKept: "revoked here, not so there: LEFT REVOKED", db.ImportDetail: "revoked in both, other time or reason: LEFT",
		db.ImportEnd: "the end here was a guess (--not-after): becomes the file's", db.ImportGuessed: "the same; the end here was a guess and stays, since it is later",
		db.ImportOtherEnd: "ANOTHER END OF VALIDITY: nothing is imported", db.ImportNoEnd: "revoked there, never registered here: LEFT OUT (--not-after)",
	}
)

type importView struct {
	outcome
	fileView
	Counts      map[string]int64 `json:"counts"`
	Differences []difference     `json:"differences"` // the first 20
	Limit       limitView        `json:"limit"`
	Inserted    int64            `json:"inserted"`
	Revoked     int64            `json:"revoked"`
}

type difference struct {
	Place  string      `json:"place"`
	Effect string      `json:"effect"`
	Source certificate `json:"source"`
	Master certificate `json:"master"`
}

func (p *program) certImport(ctx context.Context, store *db.Store, c change, f source, paths []string) error {
	act, err := c.act()
	if err != nil {
		return err
	}
	return p.judged(ctx, store, f, paths, func(file *ingest.File, issuer db.Issuer) error {
		plan, err := file.Plan(ctx, p.progress("comparing"))
		if err != nil {
			return err
		}
		view := importView{
			outcome: outcome{"cert import", false, plan.Writes() > 0}, fileView: viewFile(file, plan, issuer.Name),
			Counts: countsOf(plan), Differences: viewDifferences(plan, issuer.Name),
		}
		if view.Limit, err = limitOf(ctx, store, plan.Limited()); err != nil {
			return err
		}
		if c.apply && plan.Refusal() == nil && view.Limit.refused != nil {
			return fmt.Errorf("importing %s, nothing was done: %w", file.Name, view.Limit.refused)
		}
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
			return wrongf("%d certificates are not as %s says, and stay so", plan.Conflicts(), file.Name)
		case file.Pending > 0:
			return wrongf("%d certificates are pending: the source was asked to revoke them and has not", file.Pending)
		}
		return leftOut(file, f)
	})
}

// leftOut is the error of a file of which something that may be the issuer's was not taken.
func leftOut(file *ingest.File, f source) error {
	switch {
	case file.Bad > 0:
		return wrongf("%d odd entries of %s: ask its CA to mend them", file.Bad, file.Name)
	case f.from == "ejbca" && file.Others() > 0:
		return wrongf("%d rows are another issuer's, or of another certificate of this issuer's key (--fingerprint)", file.Others())
	}
	return nil
}

func countsOf(plan *ingest.Plan) map[string]int64 {
	counts := map[string]int64{}
	for _, effect := range effects {
		counts[string(effect)] = plan.Counts[effect]
	}
	return counts
}

func viewDifferences(plan *ingest.Plan, issuer string) []difference {
	all := []difference{}
	for _, d := range plan.First {
		here := certificate{Issuer: issuer, Serial: d.Serial.String(), Status: "never_issued"}
		if d.Effect != db.ImportNew && d.Effect != db.ImportNoEnd {
			here = showStatus(issuer, d.Serial, d.Here)
		}
		all = append(all, difference{d.Place.String(), string(d.Effect), showStatus(issuer, d.Serial, d.Source), here})
	}
	return all
}

func tellDifferences(t *table, differences []difference, plan *ingest.Plan) {
	if len(differences) == 0 {
		return
	}
	t.line("")
	t.row("PLACE", "SERIAL", "FILE SAYS", "MASTER SAYS", "EFFECT")
	for i, d := range differences {
		t.row(d.Place, d.Source.Serial, d.Source.brief(), d.Master.brief(), effectTexts[plan.First[i].Effect])
	}
	t.line("")
}

func (v importView) tell(t *table, plan *ingest.Plan) {
	v.fileView.tell(t)
	for _, effect := range effects {
		if n := plan.Counts[effect]; n > 0 {
			t.row(effectTexts[effect], strconv.FormatInt(n, 10))
		}
	}
	v.tellNotes(t)
	tellDifferences(t, v.Differences, plan)
	if v.Limit.refused != nil && plan.Refusal() == nil {
		t.line("OVER THE LIMIT: " + v.Limit.refused.Error())
	}
	if v.Applied {
		t.row("inserted", strconv.FormatInt(v.Inserted, 10))
		t.row("revoked", strconv.FormatInt(v.Revoked, 10))
	}
	if plan.Refusal() != nil || plan.Writes() == 0 && plan.Conflicts()+v.Pending+v.Bad > 0 { // it is not so already
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
				fmt.Fprintf(p.meter, "\r%s: %d of %d %s, %.0f/s, %s left   ", what, g.Done, g.Total, g.Unit, g.Rate(), g.Left().Round(time.Second))
			}
			if finished && shown {
				fmt.Fprintln(p.stderr)
			}
			return
		}
		if g.Elapsed-last >= each {
			last = g.Elapsed
			fmt.Fprintf(p.stderr, "%s: %d of %d %s, %.0f/s, %s left\n", what, g.Done, g.Total, g.Unit, g.Rate(), g.Left().Round(time.Second))
		}
	}
}
