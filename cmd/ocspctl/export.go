package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"ocspfleet/db"
)

func (p *program) certExportCommand() *cobra.Command {
	var issuer, form, out string
	cmd := p.verb("export", "write all certificates of an issuer in a form that cert import reads", `
		ocspctl cert export --issuer web-ca --out web-ca.csv
		ocspctl cert export --issuer web-ca --form ndjson | gzip > web-ca.ndjson.gz`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if form != string(db.ExportCSV) && form != string(db.ExportNDJSON) {
				return usagef("--form %q: want csv or ndjson", form)
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error {
				return p.certExport(ctx, store, issuer, db.ExportForm(form), out)
			})
		})
	cmd.Long = `One row per certificate, by serial: issuer, serial (hex), not_after, status (good
or revoked), revoked_at, reason. The rows are of one moment and are streamed. With
--out the file appears whole or not at all; without it the rows go to standard
output, and nothing else does. docs/import.md describes both forms.`
	cmd.Flags().StringVar(&issuer, "issuer", "", "the issuer's `NAME`")
	cmd.Flags().StringVar(&form, "form", "csv", "how it is written: `csv|ndjson`")
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE` instead of standard output")
	require(cmd, "issuer")
	return cmd
}

type exportView struct {
	Issuer string `json:"issuer"`
	Form   string `json:"form"`
	File   string `json:"file"`
	Rows   int64  `json:"rows"`
}

func (p *program) certExport(ctx context.Context, store *db.Store, name string, form db.ExportForm, path string) error {
	issuer, err := issuerNamed(ctx, store, name)
	if err != nil {
		return err
	}
	if path == "" {
		_, err := exportTo(ctx, store, issuer, form, p.data)
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".ocspctl-export-*")
	if err != nil {
		return fmt.Errorf("making the file: %w", err)
	}
	rows, err := exportTo(ctx, store, issuer, form, file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(file.Name()))
	}
	view := exportView{issuer.Name, string(form), path, rows}
	return p.print(view, func(t *table) {
		t.row("issuer", view.Issuer)
		t.row("file", view.File)
		t.row("rows", strconv.FormatInt(view.Rows, 10))
	})
}

// exportTo needs no printable.Cell: the one free text of a row is the issuer's name, and
// a CHECK has it begin with a letter or digit.
func exportTo(ctx context.Context, store *db.Store, issuer db.Issuer, form db.ExportForm, w io.Writer) (int64, error) {
	out := bufio.NewWriter(w)
	rows, err := store.Export(ctx, issuer.ID, form, out)
	return rows, errors.Join(err, out.Flush())
}
