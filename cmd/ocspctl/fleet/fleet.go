// Package fleet is the noun of ocspctl for all sites at once: how each is, and what one
// knows and the master lost.
//
// In reading order: fleet.go; status.go, known.go (the
// sites where the master is away); lost.go, claims.go.
package fleet

import (
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/ops/fleet"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs, and more that other packages have.
func Noun(p *cli.Program, more ...*cobra.Command) *cobra.Command {
	noun := p.Verbs("fleet", "all sites at once",
		&status{Timeout: 10 * time.Second, MaxAge: fleet.DefaultMaxAge}, ctl.AtMaster(&lost{}))
	noun.AddCommand(more...)
	return noun
}
