package database

import (
	"context"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/migrations"
)

// verify is db verify.
type verify struct{}

func (verify) Doc() cli.Doc {
	return cli.Doc{
		Name: "verify", Short: "recount every replicated row, compare with the head and, at the master, with the log of changes; exit code 3 when unequal",
		Long: `Reads every row of the replicated tables in one snapshot, counts and digests it,
and compares that with the head of the same snapshot; at the master it compares each
row with the last change of its key, too. It finds accidents and rows written past the
triggers. Run it nightly.`,
		Example: "ocspctl db verify",
	}
}

func (verify) Run(ctx context.Context, e *ctl.Either) error {
	counts, err := e.Store.Verify(ctx)
	if err != nil {
		return err
	}
	var faults []masterdb.LogFault
	if migrations.Role(e.Config.Role) == migrations.Master {
		master, err := ctl.OpenMaster(ctx, e.Config)
		if err != nil {
			return err
		}
		defer master.Close()
		if faults, err = master.VerifyLog(ctx); err != nil {
			return err
		}
	}
	if err := e.Show(cli.List("tables", counts, count), cli.Quiet(cli.List("log_faults", faults, logFault)), cli.Said(func(t *cli.Table) {
		for _, f := range faults {
			t.Row(f.Table, cli.Text(f.Key), f.Why)
		}
	})); err != nil {
		return err
	}
	var unequal []string
	for _, c := range counts {
		if !c.Identical {
			unequal = append(unequal, c.Table)
		}
	}
	switch {
	case len(unequal) > 0:
		return cli.Wrongf("the rows of %s are not what the head says", strings.Join(unequal, ", "))
	case len(faults) > 0:
		return cli.Wrongf("rows are not what the log of changes says: somebody wrote past the triggers (docs/operations.md, The master was poisoned)")
	}
	return nil
}

// count is a table's; digests are decimal texts: JSON numbers are too short for 64 bits.
func count(c db.Count) cli.Record {
	return cli.Record{
		cli.F("table", "TABLE", c.Table),
		cli.F("counted", "ROWS", c.Counted.Count), cli.F("digest", "DIGEST", strconv.FormatUint(uint64(c.Counted.Digest), 10)),
		cli.F("head_count", "HEAD ROWS", c.Head.Count), cli.F("head_digest", "HEAD DIGEST", strconv.FormatUint(uint64(c.Head.Digest), 10)),
		cli.F("identical", "EQUAL", c.Identical),
	}
}

// logFault is a row that is not what the log of changes says last of it; the key is
// issuer, then length and octets of the serial.
func logFault(f masterdb.LogFault) cli.Record {
	return cli.Record{cli.F("table", "", f.Table), cli.F("key", "", f.Key), cli.F("why", "", f.Why)}
}
