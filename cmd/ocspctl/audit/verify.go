package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/auditchain"
)

// verify is audit verify.
type verify struct {
	Marks []string `flag:"mark,split" help:"<N:HASH> as an earlier run printed it, or db status at a site; may be given several times"`

	known []auditchain.Mark
}

func (verify) Doc() cli.Doc {
	return cli.Doc{
		Name: "verify", Short: "compute the whole chain anew and name what was tampered with; exit code 3 if anything was",
		Long: `Reads the whole chain in one snapshot, puts each entry's bytes together and hashes
them here, and compares the end with the head (1,000,000 entries: some 3 s). It
names entries that were changed, deleted, put in, or cut off at the end.

Who may write everything at the master can write the whole chain anew, the head
too. What finds that is a mark from elsewhere: each site holds the master's head
as it last received it. Take one with db status at a site, or note the mark that
this verb prints, and give it with --mark. Run it nightly; exit code 3.`,
		Example: `
		ocspctl audit verify
		ocspctl audit verify --mark 4711:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9`,
	}
}

// Check reads the marks.
func (v *verify) Check() error {
	for _, text := range v.Marks {
		number, digits, _ := strings.Cut(text, ":")
		n, err := strconv.ParseInt(number, 10, 64)
		hash, hexErr := hex.DecodeString(digits)
		if err != nil || hexErr != nil || n < 0 || len(hash) != sha256.Size {
			return cli.Usagef("--mark %q: want N:HASH as audit verify prints it, with %d hexadecimal digits", text, 2*sha256.Size)
		}
		v.known = append(v.known, auditchain.Mark{N: n, Hash: hash})
	}
	return nil
}

// fault returns a fault of the chain: the entry is null if the row has no place in it, the row is
// null if it no longer exists.
func fault(f auditchain.Fault) cli.Record {
	return cli.Record{cli.F("entry", "", cli.OrNil(f.N)), cli.F("row", "", cli.OrNil(f.ID)), cli.F("fault", "", f.Text)}
}

func sentence(f auditchain.Fault) string {
	switch {
	case f.N != 0 && f.ID != 0:
		return fmt.Sprintf("entry %d (row %d) %s", f.N, f.ID, f.Text)
	case f.N != 0:
		return fmt.Sprintf("entry %d %s", f.N, f.Text)
	default:
		return fmt.Sprintf("row %d %s", f.ID, f.Text)
	}
}

func (v *verify) Run(ctx context.Context, m *ctl.Master) error {
	begun := m.Now()
	var progress func(int64)
	if m.TTY {
		progress = func(rows int64) { fmt.Fprintf(m.Meter, "\r%d entries ", rows) }
	}
	report, err := m.Store.VerifyAudit(ctx, v.known, progress)
	if m.TTY && report.Entries >= 100_000 {
		fmt.Fprintln(m.Stderr)
	}
	if err != nil {
		return err
	}
	took := m.Now().Sub(begun)
	err = m.Show(
		cli.Record{
			cli.F("entries", "entries", report.Entries), cli.Shown("took_seconds", "took", took.Seconds(), cli.Span(took)),
			cli.F("mark", "mark", ctl.Mark(report.Head)), cli.F("faults_not_listed", "", report.More),
		},
		cli.Quiet(cli.List("faults", report.Faults, fault)),
		cli.Said(func(t *cli.Table) {
			for _, f := range report.Faults {
				t.Line("FOUND: " + sentence(f))
			}
			if report.More > 0 {
				t.Linef("... and %d more", report.More)
			}
			if len(report.Faults) == 0 {
				t.Line("The chain is whole. Note the mark where nobody at the master can write: it proves all entries up to it later.")
			}
		}))
	if err == nil && len(report.Faults) > 0 {
		err = cli.Wrongf("the audit is not what was written: first, %s", sentence(report.Faults[0]))
	}
	return err
}
