package cert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// export is cert export.
type export struct {
	Issuer string `flag:"issuer,required" help:"the issuer's <NAME>"`
	Form   string `flag:"form" help:"how it is written: <csv|ndjson>"`
	Out    string `flag:"out" help:"write to <FILE> instead of standard output"`
}

func (export) Doc() cli.Doc {
	return cli.Doc{
		Name: "export", Short: "write all certificates of an issuer in a form that cert import reads",
		Long: `One row per certificate, by serial: issuer, serial (hex), not_after, status (good
or revoked), revoked_at, reason. The rows are of one moment and are streamed. With
--out the file appears whole or not at all; without it the rows go to standard
output, and nothing else does. docs/import.md describes both forms.`,
		Example: `
		ocspctl cert export --issuer web-ca --out web-ca.csv
		ocspctl cert export --issuer web-ca --form ndjson | gzip > web-ca.ndjson.gz`,
	}
}

// Check refuses an unknown form.
func (v *export) Check() error {
	if v.Form != string(masterdb.ExportCSV) && v.Form != string(masterdb.ExportNDJSON) {
		return cli.Usagef("--form %q: want csv or ndjson", v.Form)
	}
	return nil
}

func (v *export) Run(ctx context.Context, m *ctl.Master) error {
	issuer, err := m.Issuer(ctx, v.Issuer)
	if err != nil {
		return err
	}
	if v.Out == "" {
		_, err := v.write(ctx, m.Store, issuer.ID, m.Data)
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(v.Out), ".ocspctl-export-*")
	if err != nil {
		return fmt.Errorf("making the file: %w", err)
	}
	rows, err := v.write(ctx, m.Store, issuer.ID, file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), v.Out)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", v.Out, err), os.Remove(file.Name()))
	}
	return m.Show(cli.Record{
		cli.F("issuer", "issuer", issuer.Name), cli.F("form", "", v.Form), cli.F("file", "file", v.Out), cli.F("rows", "rows", rows),
	})
}

// write needs no printable.Cell: the only free text of a row is the issuer's name, and by a CHECK
// that begins with a letter or digit.
func (v *export) write(ctx context.Context, store *masterdb.DB, issuer db.IssuerID, w io.Writer) (int64, error) {
	out := bufio.NewWriter(w)
	rows, err := store.Export(ctx, issuer, masterdb.ExportForm(v.Form), out)
	return rows, errors.Join(err, out.Flush())
}
