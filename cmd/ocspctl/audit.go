package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ocspfleet/cmd/internal/printable"
	"ocspfleet/db"
)

func (p *program) auditCommand() *cobra.Command {
	return noun("audit", "who did what, when and why: hash-chained at the master", p.auditListCommand(), p.auditVerifyCommand(), p.auditExportCommand())
}

// auditChoice holds the flags that choose entries.
type auditChoice struct {
	since, until, act, user string
	limit                   int
}

func (c *auditChoice) flags(cmd *cobra.Command, limit int) {
	cmd.Flags().StringVar(&c.since, "since", "", "from this `TIME` on, or so long ago: 2026-11-22T15:04:05Z, 24h")
	cmd.Flags().StringVar(&c.until, "until", "", "before this `TIME`, or so long ago")
	cmd.Flags().StringVar(&c.act, "act", "", "this `ACT` alone, or all of a noun: 'cert revoke', cert")
	cmd.Flags().StringVar(&c.user, "user", "", "this `NAME` alone: a login of the database or a user of the operating system")
	cmd.Flags().IntVar(&c.limit, "limit", limit, "the newest so many; 0: all")
}

func (c *auditChoice) filter(now time.Time) (db.AuditFilter, error) {
	f := db.AuditFilter{Act: c.act, User: c.user, Limit: c.limit}
	if c.limit < 0 {
		return f, usagef("--limit %d: want 0 or more", c.limit)
	}
	for _, bound := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", c.since, &f.Since}, {"--until", c.until, &f.Until}} {
		if bound.text == "" {
			continue
		}
		if ago, err := time.ParseDuration(bound.text); err == nil && ago >= 0 {
			*bound.to = now.Add(-ago)
			continue
		}
		at, err := parseTime(bound.text)
		if err != nil {
			return f, usagef("%s: %v", bound.flag, err)
		}
		*bound.to = at
	}
	return f, nil
}

func (p *program) auditListCommand() *cobra.Command {
	var c auditChoice
	cmd := p.verb("list", "show the newest entries, the last one at the end", `
		ocspctl audit list
		ocspctl audit list --since 24h --act 'cert revoke'
		ocspctl audit list --user alice --limit 0 --output json`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.auditList(ctx, store, c) })
		})
	c.flags(cmd, 50)
	return cmd
}

// auditEntry is an entry as ocspctl shows it.
type auditEntry struct {
	N        int64           `json:"n"`
	At       string          `json:"at"` // RFC 3339 in UTC, microseconds: as it was hashed
	DBRole   string          `json:"db_role"`
	OSUser   string          `json:"os_user"`
	Act      string          `json:"act"`
	Why      string          `json:"why"`
	Position int64           `json:"position"`
	Hash     string          `json:"hash"`
	What     json.RawMessage `json:"what"`
}

// auditTime is the form of an entry's time.
const auditTime = "2006-01-02T15:04:05.000000Z"

func viewEntry(e db.AuditEntry) auditEntry {
	return auditEntry{
		e.N, e.At.UTC().Format(auditTime), e.DBRole, e.OSUser, e.Act, e.Why, e.Position, hex.EncodeToString(e.Hash), json.RawMessage(e.What),
	}
}

func (p *program) auditList(ctx context.Context, store *db.Store, c auditChoice) error {
	filter, err := c.filter(p.now())
	if err != nil {
		return err
	}
	views := []auditEntry{}
	if err := store.AuditEntries(ctx, filter, func(e db.AuditEntry) error {
		views = append(views, viewEntry(e))
		return nil
	}); err != nil {
		return err
	}
	return p.print(map[string]any{"entries": views}, func(t *table) {
		t.row("N", "AT", "LOGIN", "USER", "ACT", "WHY", "WHAT")
		for _, v := range views {
			at, _, _ := strings.Cut(v.At, ".")
			t.row(strconv.FormatInt(v.N, 10), at+"Z", v.DBRole, v.OSUser, v.Act, v.Why, string(v.What))
		}
	})
}

func (p *program) auditVerifyCommand() *cobra.Command {
	var marks []string
	cmd := p.verb("verify", "compute the whole chain anew and name what was tampered with; exit code 3 if anything was", `
		ocspctl audit verify
		ocspctl audit verify --mark 4711:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			known := make([]db.AuditMark, len(marks))
			for i, text := range marks {
				var err error
				if known[i], err = parseMark(text); err != nil {
					return err
				}
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.auditVerify(ctx, store, known) })
		})
	cmd.Flags().StringSliceVar(&marks, "mark", nil, "`N:HASH` as an earlier run printed it, or db status at a site; may be given several times")
	return cmd
}

func showMark(m db.AuditMark) string { return fmt.Sprintf("%d:%x", m.N, m.Hash) }

func parseMark(text string) (db.AuditMark, error) {
	number, digits, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	hash, hexErr := hex.DecodeString(digits)
	if err != nil || hexErr != nil || n < 0 || len(hash) != sha256.Size {
		return db.AuditMark{}, usagef("--mark %q: want N:HASH as audit verify prints it, with %d hexadecimal digits", text, 2*sha256.Size)
	}
	return db.AuditMark{N: n, Hash: hash}, nil
}

// auditFault is a fault as ocspctl shows it.
type auditFault struct {
	Entry *int64 `json:"entry"` // null: the row has no place in the chain
	Row   *int64 `json:"row"`   // audit.id; null: there is no such row any more
	Fault string `json:"fault"`
}

func (p *program) auditVerify(ctx context.Context, store *db.Store, marks []db.AuditMark) error {
	begun := p.now()
	var progress func(int64)
	if p.tty {
		progress = func(rows int64) { fmt.Fprintf(p.meter, "\r%d entries ", rows) }
	}
	report, err := store.VerifyAudit(ctx, marks, progress)
	if p.tty && report.Entries >= 100_000 {
		fmt.Fprintln(p.stderr)
	}
	if err != nil {
		return err
	}
	faults := make([]auditFault, len(report.Faults))
	for i, f := range report.Faults {
		faults[i].Fault = f.Text
		if f.N != 0 {
			faults[i].Entry = &f.N
		}
		if f.ID != 0 {
			faults[i].Row = &f.ID
		}
	}
	took := p.now().Sub(begun)
	err = p.print(map[string]any{
		"entries": report.Entries, "mark": showMark(report.Head), "faults": faults, "faults_not_listed": report.More, "took_seconds": took.Seconds(),
	}, func(t *table) {
		t.row("entries", strconv.FormatInt(report.Entries, 10))
		t.row("took", span(took))
		t.row("mark", showMark(report.Head))
		for _, f := range faults {
			t.line("FOUND: " + f.text())
		}
		if report.More > 0 {
			t.line(fmt.Sprintf("... and %d more", report.More))
		}
		if len(faults) == 0 {
			t.line("The chain is whole. Note the mark where nobody at the master can write: it proves all entries up to it later.")
		}
	})
	if err == nil && len(faults) > 0 {
		err = wrongf("the audit is not what was written: first, %s", faults[0].text())
	}
	return err
}

func (f auditFault) text() string {
	switch {
	case f.Entry != nil && f.Row != nil:
		return fmt.Sprintf("entry %d (row %d) %s", *f.Entry, *f.Row, f.Fault)
	case f.Entry != nil:
		return fmt.Sprintf("entry %d %s", *f.Entry, f.Fault)
	default:
		return fmt.Sprintf("row %d %s", *f.Row, f.Fault)
	}
}

func (p *program) auditExportCommand() *cobra.Command {
	var c auditChoice
	var form, out string
	cmd := p.verb("export", "write entries for the auditor, oldest first", `
		ocspctl audit export --form csv --out audit.csv
		ocspctl audit export --form ndjson --since 2026-01-01 > audit.ndjson`,
		cobra.NoArgs, func(ctx context.Context, _ []string) error {
			if form != "csv" && form != "ndjson" {
				return usagef("--form %q: want csv or ndjson", form)
			}
			return p.atMaster(ctx, func(store *db.Store, _ *config) error { return p.auditExport(ctx, store, c, form, out) })
		})
	c.flags(cmd, 0)
	cmd.Flags().StringVar(&form, "form", "csv", "the form: `csv|ndjson`")
	cmd.Flags().StringVar(&out, "out", "", "write to `FILE`, which must not be there (default: print)")
	return cmd
}

func (p *program) auditExport(ctx context.Context, store *db.Store, c auditChoice, form, out string) error {
	filter, err := c.filter(p.now())
	if err != nil {
		return err
	}
	if out == "" {
		return writeEntries(ctx, store, filter, form, p.data, new(int64))
	}
	file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("exporting the audit: %w", err)
	}
	var n int64
	err = writeEntries(ctx, store, filter, form, file, &n)
	if closeErr := file.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("exporting the audit: %w", closeErr)
	}
	if err != nil {
		return err
	}
	return p.print(map[string]any{"file": out, "entries": n}, func(t *table) {
		t.line(fmt.Sprintf("%d entries are in %s.", n, out))
	})
}

// writeEntries streams the entries: memory does not grow with their number.
func writeEntries(ctx context.Context, store *db.Store, filter db.AuditFilter, form string, to io.Writer, n *int64) error {
	w := bufio.NewWriterSize(to, 1<<16)
	write, flush := ndjsonEntry(w), w.Flush
	if form == "csv" {
		c := csv.NewWriter(w)
		if err := c.Write([]string{"n", "at", "db_role", "os_user", "act", "what", "why", "position", "hash"}); err != nil {
			return fmt.Errorf("exporting the audit: %w", err)
		}
		write = func(v auditEntry) error {
			cells := []string{
				strconv.FormatInt(v.N, 10), v.At, v.DBRole, v.OSUser, v.Act, string(v.What), v.Why, strconv.FormatInt(v.Position, 10), v.Hash,
			}
			for i, text := range cells {
				cells[i] = printable.Cell(text)
			}
			return c.Write(cells)
		}
		flush = func() error {
			c.Flush()
			if err := c.Error(); err != nil {
				return err
			}
			return w.Flush()
		}
	}
	if err := store.AuditEntries(ctx, filter, func(e db.AuditEntry) error {
		*n++
		return write(viewEntry(e))
	}); err != nil {
		return fmt.Errorf("exporting the audit: %w", err)
	}
	if err := flush(); err != nil {
		return fmt.Errorf("exporting the audit: %w", err)
	}
	return nil
}

// ndjsonEntry writes one object per line. What stands in it octet for octet as it
// was hashed, which the encoder would not leave it.
func ndjsonEntry(w io.Writer) func(auditEntry) error {
	return func(v auditEntry) error {
		what := v.What
		v.What = nil
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s%s}\n", strings.TrimSuffix(string(line), "null}"), what)
		return err
	}
}
