package cert

import (
	"context"
	"crypto/sha1" //nolint:gosec // what EJBCA names certificates by
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // --timezone works without the system's

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/ops/ingest"
)

// source describes a file.
type source struct {
	From         string   `flag:"from,required" help:"what the file is: <FORMS>"`
	Issuer       string   `flag:"issuer,required" help:"the issuer's <NAME> at the master"`
	Zone         string   `flag:"timezone" help:"the time <ZONE> of times that name none (cacert, cfssl), such as Australia/Sydney"`
	RootCert     int      `flag:"rootcert" help:"cacert: the <NUMBER> of this issuer in the column rootcert: 1 class 1, 2 (or 3) class 3"`
	SerialBase   int      `flag:"serial-base" help:"ejbca: serials are written with this <BASE>, 10 or 16"`
	Fingerprints []string `flag:"fingerprint,split" help:"ejbca: rows under this SHA-1 <FINGERPRINT> are the issuer's, too: an earlier certificate of its key; may be given again"`
	SkipBad      bool     `flag:"skip-bad" help:"crl: leave odd entries of a signed CRL out; they are listed and counted, and the code is 3"`
	Errors       string   `flag:"errors" help:"write every row that is bad, skipped, pending or in conflict to <FILE>, as CSV: kind,place,text"`
	Files        []string `arg:"FILE..."`
}

// Words returns the names of the forms.
func (source) Words() []string { return []string{"FORMS", strings.Join(ingest.Forms(), "|")} }

var plainSource = source{Zone: "UTC", SerialBase: 10}

// options reads the flags.
func (f *source) options(ctx context.Context, m *ctl.Master) (ingest.Options, error) {
	o := ingest.Options{Form: f.From, Now: m.Now(), RootCert: f.RootCert, SerialBase: f.SerialBase, SkipBad: f.SkipBad}
	if !slices.Contains(ingest.Forms(), f.From) {
		return o, cli.Usagef("--from %q: want %s", f.From, strings.Join(ingest.Forms(), ", "))
	}
	if f.RootCert == 3 {
		o.RootCert = 2 // class 3 is the column's 2
	}
	if o.RootCert < 0 || o.RootCert > 2 {
		return o, cli.Usagef("--rootcert %d: want 1 or 2", f.RootCert)
	}
	if f.SerialBase != 10 && f.SerialBase != 16 {
		return o, cli.Usagef("--serial-base %d: want 10 or 16", f.SerialBase)
	}
	if f.SkipBad && f.From != "crl" {
		return o, cli.Usagef("--skip-bad is for signed CRLs: mend the file")
	}
	for _, text := range f.Fingerprints {
		sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(sum) != sha1.Size {
			return o, cli.Usagef("--fingerprint %q: want 40 hexadecimal digits, as openssl x509 -fingerprint -sha1 prints them", text)
		}
		o.Fingerprints = append(o.Fingerprints, hex.EncodeToString(sum))
	}
	var err error
	if o.Location, err = time.LoadLocation(f.Zone); err != nil {
		return o, cli.Usagef("--timezone %q: want a name of the time zone database, such as Europe/Vienna", f.Zone)
	}
	o.Issuer, err = m.Issuer(ctx, f.Issuer)
	return o, err
}

// judge opens and checks the files, and calls do with them; the rows for --errors are in their
// file when it returns, whatever do returns.
func (f *source) judge(ctx context.Context, m *ctl.Master, o ingest.Options, do func(*ingest.File) error) (err error) {
	if f.Errors != "" {
		out, err := os.OpenFile(f.Errors, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("opening the file for bad rows: %w", err)
		}
		rows := csv.NewWriter(out)
		_ = rows.Write([]string{"kind", "place", "text"}) // Error reports an error later
		o.Note = func(n ingest.Note) { _ = rows.Write([]string{string(n.Kind), n.Place.String(), n.Text}) }
		defer func() {
			rows.Flush()
			if failed := errors.Join(rows.Error(), out.Close()); failed != nil {
				err = errors.Join(err, fmt.Errorf("writing the bad rows to %s: %w", f.Errors, failed))
			}
		}()
	}
	o.Progress = progress(m, "reading")
	file, err := ingest.Open(ctx, m.Store, f.Files, o)
	if err != nil {
		return err
	}
	defer file.Close()
	return do(file)
}

// leftOut returns the error for a file of which something that may be the issuer's was not taken.
func (f *source) leftOut(file *ingest.File) error {
	switch {
	case file.Bad > 0:
		return cli.Wrongf("%d odd entries of %s: ask its CA to mend them", file.Bad, file.Name)
	case f.From == "ejbca" && file.Others() > 0:
		return cli.Wrongf("%d rows are another issuer's, or of another certificate of this issuer's key (--fingerprint)", file.Others())
	}
	return nil
}

// progress reports the progress of a long pass on stderr: on a terminal as one line that changes,
// else as a new line each 10 s. It reports nothing of short passes.
func progress(p *ctl.Master, what string) func(ingest.Progress) {
	const firstAfter, each = 2 * time.Second, 10 * time.Second
	last := time.Duration(0)
	shown := false
	return func(g ingest.Progress) {
		finished := g.Done >= g.Total
		if p.TTY {
			if g.Elapsed > firstAfter || shown {
				shown = true
				fmt.Fprintf(p.Meter, "\r%s: %d of %d %s, %.0f/s, %s left   ", what, g.Done, g.Total, g.Unit, g.Rate(), g.Left().Round(time.Second))
			}
			if finished && shown {
				fmt.Fprintln(p.Stderr)
			}
			return
		}
		if g.Elapsed-last >= each {
			last = g.Elapsed
			fmt.Fprintf(p.Stderr, "%s: %d of %d %s, %.0f/s, %s left\n", what, g.Done, g.Total, g.Unit, g.Rate(), g.Left().Round(time.Second))
		}
	}
}
