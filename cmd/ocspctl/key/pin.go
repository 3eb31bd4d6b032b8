package key

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
)

// pin is key pin.
type pin struct {
	cli.AtOnce
	File string `flag:"file" help:"the key's <FILE> (default: feed.tls_key_file of the configuration)"`
}

func (pin) Doc() cli.Doc {
	return cli.Doc{
		Name: "pin", Short: "show the pin of this machine's TLS key for the feed; makes the key if there is none",
		Long: `Master and sites know each other's TLS keys by the SHA-256 of their public keys, and
by nothing else. Read the pin to whoever runs the other side by another way than
the network. The key stays in its file, readable by its owner alone.`,
		Example: `
		ocspctl key pin --file /etc/ocspfleet/feed-tls.key
		ocspctl key pin --output json`,
	}
}

func (v *pin) Run(_ context.Context, p *cli.Program) error {
	if v.File == "" {
		cfg, err := ctl.Load(p)
		if err != nil {
			return err
		}
		if v.File = cfg.Feed.TLSKeyFile; v.File == "" {
			return errors.New("the configuration names no TLS key for the feed: set feed.tls_key_file, or give --file")
		}
	}
	made := false
	if _, err := os.Stat(v.File); errors.Is(err, fs.ErrNotExist) {
		if _, err := feed.GenerateKey(v.File, "tls"); err != nil {
			return err
		}
		made = true
	}
	identity, err := feedhttp.LoadIdentity(v.File)
	if err != nil {
		return err
	}
	parts := []cli.Part{cli.Quiet(cli.NewOutcome("key pin", true, made)), cli.Record{cli.F("file", "file", v.File), cli.F("pin", "pin", identity.Pin.String())}}
	if made {
		parts = append(parts, cli.Line("The key is new. Whoever runs the other side pins it: responder add --feed-pin, feed.sources, feed.peers."))
	}
	return p.Show(parts...)
}
