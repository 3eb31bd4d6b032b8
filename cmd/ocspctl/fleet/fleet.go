package fleet

import (
	"time"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/ops/sites"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs, and more commands of other packages.
func Noun(p *cli.Program, more ...*cobra.Command) *cobra.Command {
	noun := p.Verbs("fleet", "all sites at once",
		&status{Timeout: 10 * time.Second, MaxAge: sites.DefaultMaxAge}, ctl.AtMaster(&lost{}))
	noun.AddCommand(more...)
	return noun
}
