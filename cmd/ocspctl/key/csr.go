package key

import (
	"context"
	"fmt"
	"os"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/db"
	"ocspfleet/hsm"
)

// csr is key csr.
type csr struct {
	cli.AtOnce
	Site  string `arg:"SITE"`
	Label string `flag:"label" help:"the <LABEL> of the key (default: the only one there)"`
	Out   string `flag:"out" help:"write the request to <FILE> (default: print it)"`
}

func (csr) Doc() cli.Doc {
	return cli.Doc{
		Name: "csr", Short: "make a certificate request for the CA's staff, signed by the key",
		Long: `The request bears the site's name and is signed by the key, which proves that the
site has it. Send it to the CA's staff, and read them the fingerprint by another
way; they answer with responder add.`,
		Example: `
		ocspctl key csr site-a --out site-a.csr
		ocspctl key csr site-a --label ocsp-site-a-20261122 --out site-a.csr`,
	}
}

// Check checks the site's name.
func (v *csr) Check() error {
	if err := db.CheckSite(v.Site); err != nil {
		return cli.Usagef("%v", err)
	}
	return nil
}

func (v *csr) Run(_ context.Context, r *run) error {
	key, err := chooseKey(r.token, v.Label)
	if err != nil {
		return err
	}
	signer, err := r.token.Signer(key.Public)
	if err != nil {
		return err
	}
	request, err := hsm.CSR(signer, v.Site)
	if err != nil {
		return err
	}
	if v.Out != "" {
		if err := os.WriteFile(v.Out, request, 0o644); err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
	}
	of := record(key)
	return r.Show(cli.Record{cli.F("site", "", v.Site), cli.F("key", "", of), cli.F("file", "", cli.OrNil(v.Out)), cli.F("request", "", string(request))}, cli.Said(func(t *cli.Table) {
		if v.Out == "" {
			t.Block(strings.TrimSuffix(string(request), "\n"))
			return
		}
		t.Row("site", v.Site)
		of.Tell(t)
		t.Row("request", v.Out)
		t.Line("Send the request to the CA's staff, and read them the fingerprint by another way.")
	}))
}
