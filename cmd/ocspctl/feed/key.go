package feed

import (
	"context"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/sync/feed"
)

// generate is feed key generate.
type generate struct {
	cli.AtOnce
	Origin string `flag:"origin,required" help:"the feed's <NAME>: a host name in lower case, perhaps with one /name after it"`
	Out    string `flag:"out,required" help:"write the key to <FILE>, which must not exist"`
}

func (generate) Doc() cli.Doc {
	return cli.Doc{
		Name: "generate", Short: "make a key of the feed: its root's, one that signs, or a person's for corrections",
		Long: `An Ed25519 key in a file. The root's signs key sets, seldom, on a machine without a
network; the other kind signs checkpoints at the master, all the time. Sites pin the
root's verifier key (feed.root) and believe nothing else.`,
		Example: `
		ocspctl feed key generate --origin ca.example/status --out feed-root.key
		ocspctl feed key generate --origin ca.example/status --out feed.key
		ocspctl feed key generate --origin ca.example/status --out /media/anna/correct.key`,
	}
}

func (v *generate) Run(_ context.Context, p *cli.Program) error {
	if err := feed.CheckOrigin(v.Origin); err != nil {
		return cli.Usagef("--origin: %v", err)
	}
	key, err := feed.GenerateKey(v.Out, v.Origin)
	if err != nil {
		return err
	}
	return p.ShowChange(cli.NewOutcome("feed key generate", true, true), cli.Record{
		cli.F("file", "file", v.Out), cli.F("verifier", "verifier", key.Verifier()), // NAME+HASH+BASE64 (C2SP signed note)
	})
}
