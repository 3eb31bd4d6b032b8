package feed

import (
	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	noun := p.Verbs("feed", "the signed feed: its keys, and what it holds", &show{}, &verify{}, ctl.AtMaster(&recoverLost{}))
	noun.AddCommand(
		p.Verbs("key", "a key of the feed", &generate{}),
		p.Verbs("keys", "the key set: who may sign, under the feed's root", &sign{}, ctl.AtMaster(&publish{}), ctl.AtMaster(&retire{})),
		p.Verbs("corrections", "the signed notes that took revocations back", ctl.AtMaster(&resign{})))
	return noun
}
