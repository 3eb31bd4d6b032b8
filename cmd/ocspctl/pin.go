package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"

	"github.com/spf13/cobra"
)

func (p *program) keyPinCommand() *cobra.Command {
	var file string
	cmd := p.Command("pin", "show the pin of this machine's TLS key for the feed; makes the key if there is none", `
		ocspctl key pin --file /etc/ocspfleet/feed-tls.key
		ocspctl key pin --output json`,
		cobra.NoArgs, func(context.Context, []string) error { return p.keyPin(file) })
	cmd.Flags().StringVar(&file, "file", "", "the key's `FILE` (default: feed.tls_key_file of the configuration)")
	return atOnce(cmd)
}

func (p *program) keyPin(file string) error {
	if file == "" {
		cfg, err := p.config()
		if err != nil {
			return err
		}
		if file = cfg.Feed.TLSKeyFile; file == "" {
			return errors.New("the configuration names no TLS key for the feed: set feed.tls_key_file, or give --file")
		}
	}
	made := false
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if _, err := feed.GenerateKey(file, "tls"); err != nil {
			return err
		}
		made = true
	}
	identity, err := feedhttp.LoadIdentity(file)
	if err != nil {
		return err
	}
	result := struct {
		cli.Outcome
		File string `json:"file"`
		Pin  string `json:"pin"` // SHA-256 of the SubjectPublicKeyInfo, hex
	}{cli.NewOutcome("key pin", true, made), file, identity.Pin.String()}
	return p.Print(result, func(t *cli.Table) {
		t.Row("file", file)
		t.Row("pin", result.Pin)
		if made {
			t.Line("The key is new. Whoever runs the other side pins it: responder add --feed-pin, feed.sources, feed.peers.")
		}
	})
}
