package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/internal/printable"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/masterdb"
)

// export is audit export.
type export struct {
	choice
	Form string `flag:"form" help:"the form: <csv|ndjson>"`
	Out  string `flag:"out" help:"write to <FILE>, which must not be there (default: print)"`
}

func (export) Doc() cli.Doc {
	return cli.Doc{
		Name: "export", Short: "write entries for the auditor, oldest first",
		Long: `Writes n, at, db_role, os_user, act, what, why, position, hash. An auditor can
compute the hashes without us: docs/audit.md says how. Streams; memory does not
grow with the number of entries.`,
		Example: `
		ocspctl audit export --form csv --out audit.csv
		ocspctl audit export --form ndjson --since 2026-01-01 > audit.ndjson`,
	}
}

// Check refuses an unknown form.
func (v *export) Check() error {
	if v.Form != "csv" && v.Form != "ndjson" {
		return cli.Usagef("--form %q: want csv or ndjson", v.Form)
	}
	return nil
}

func (v *export) Run(ctx context.Context, m *ctl.Master) error {
	filter, err := v.filter(m.Now())
	if err != nil {
		return err
	}
	if v.Out == "" {
		_, err := v.write(ctx, m.Store, filter, m.Data)
		return err
	}
	file, err := os.OpenFile(v.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("exporting the audit: %w", err)
	}
	n, err := v.write(ctx, m.Store, filter, file)
	if closeErr := file.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("exporting the audit: %w", closeErr)
	}
	if err != nil {
		return err
	}
	return m.Show(cli.Record{cli.F("file", "", v.Out), cli.F("entries", "", n)}, cli.Line("%d entries are in %s.", n, v.Out))
}

// write streams any number of entries, and counts them.
func (v *export) write(ctx context.Context, store *masterdb.DB, filter masterdb.AuditFilter, to io.Writer) (n int64, err error) {
	w := bufio.NewWriterSize(to, 1<<16)
	c := csv.NewWriter(w)
	write := func(e auditchain.Entry) error { return writeLine(w, e) }
	if v.Form == "csv" {
		write = func(e auditchain.Entry) error { return c.Write(cells(e)) }
		err = c.Write([]string{"n", "at", "db_role", "os_user", "act", "what", "why", "position", "hash"})
	}
	if err == nil {
		err = store.AuditEntries(ctx, filter, func(e auditchain.Entry) error {
			n++
			return write(e)
		})
	}
	if c.Flush(); err == nil {
		err = c.Error()
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return n, fmt.Errorf("exporting the audit: %w", err)
	}
	return n, nil
}

// cells returns an entry as a row of CSV, in which a spreadsheet runs no formula.
func cells(e auditchain.Entry) []string {
	all := []string{
		strconv.FormatInt(e.N, 10), e.At.UTC().Format(entryTime), e.DBRole, e.OSUser, e.Act, string(e.What), e.Why,
		strconv.FormatInt(e.Position, 10), hex.EncodeToString(e.Hash),
	}
	for i, text := range all {
		all[i] = printable.Cell(text)
	}
	return all
}

// writeLine writes one object in one line. The act's details stay octet for octet as they were
// hashed, which the encoder would not do.
func writeLine(w io.Writer, e auditchain.Entry) error {
	all := record(e)
	line, err := json.Marshal(all[:len(all)-1])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s,\"what\":%s}\n", strings.TrimSuffix(string(line), "}"), e.What)
	return err
}
