// Bench starts a fleet and measures it: import, memory, the way of a revocation,
// the cost of a cached GET beside bare net/http and chi in the same run, then both
// ways of syncing at three sites while certificates are imported, and the seeding
// of a site; and how soon a site that is taken out stops and the others say so. It prints a table and writes the figures as JSON. It is no test.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// row is one figure.
type row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

type options struct {
	certs, revocations, rounds, basePort int
	withdrawals                          int
	seconds                              float64
	out, parts, ways                     string
}

func main() {
	var o options
	bare := flag.String("bare", "", "")
	size := flag.String("size", "", "")
	flag.IntVar(&o.certs, "certs", 1_000_000, "certificates to import")
	flag.IntVar(&o.revocations, "revocations", 300, "revocations to time")
	flag.IntVar(&o.withdrawals, "withdrawals", 100, "sites to take out and in again")
	flag.IntVar(&o.rounds, "rounds", 3, "interleaved rounds of load")
	flag.Float64Var(&o.seconds, "seconds", 5, "length of one round of load, each server")
	flag.IntVar(&o.basePort, "base-port", 18700, "first port of the fleet")
	flag.StringVar(&o.out, "out", ".run/bench.json", "where the figures go")
	flag.StringVar(&o.parts, "parts", "fleet,sync", "what to measure, with commas: fleet, sync, withdraw")
	flag.StringVar(&o.ways, "ways", "feed,logical,seed,import", "which ways of syncing; seed: the seeding of a site by the feed; import: an import in a fleet of both, with revocations meanwhile")
	flag.Parse()
	if *bare != "" {
		fail(serveBare(*bare, *size))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fail(run(ctx, o))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	var rows []row
	for part, measure := range map[string]func(context.Context, options) ([]row, error){"fleet": oneFleet, "sync": bothWays, "withdraw": withdrawals} {
		if !strings.Contains(o.parts, part) {
			continue
		}
		some, err := measure(ctx, o)
		if err != nil {
			return err
		}
		rows = append(rows, some...)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%.4g\t%s\n", r.Name, r.Value, r.Unit)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.out), 0o700); err != nil {
		return err
	}
	return os.WriteFile(o.out, append(raw, '\n'), 0o600)
}
