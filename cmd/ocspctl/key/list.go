package key

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/hsm"
	"ocspfleet/migrations"
)

// list is key list.
type list struct{}

func (list) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "show the token, its keys, and the certificates of each",
		Long: `Shows what the token says of itself, the mechanisms that it has of those that are
needed, its keys, and the certificates of each key in the site's copy, if the
configuration names the site's database. The fingerprint is the SHA-256 of the
public key, as responder list shows it at the master. A key without a good
certificate is not used. Below stand, each with the way out, keys that are left alone (no
public half, or a PIN asked for at each signature) or not told from one another.

A PIN that the token refuses is offered once, by whatever verb, until its file is
changed or touched: exit code 4, which says that trying again does harm.`,
		Example: `
		ocspctl key list
		ocspctl key list --output json`,
	}
}

func (list) Run(ctx context.Context, r *run) error {
	keys, err := r.token.Keys()
	if err != nil {
		return err
	}
	odd, err := r.token.Oddities()
	if err != nil {
		return err
	}
	var known map[[32]byte][]certificate
	if r.config.Database.DSN != "" && r.config.Role == string(migrations.Site) {
		if known, err = r.siteCertificates(ctx); err != nil { // the verb was asked for the token
			fmt.Fprintf(r.Stderr, "ocspctl: the certificates were not looked at: %v\n", err)
		}
	}
	return r.Show(info(r.token.Info()), cli.Line(""), cli.List("keys", keys, func(k hsm.KeyInfo) cli.Record { return row(k, known) }),
		cli.Record{cli.F("remarks", "", odd)}, cli.Said(func(t *cli.Table) {
			for _, text := range odd {
				t.Line(text)
			}
		}))
}

// info returns what a token reports: the mechanisms are those that are needed, sessions those that
// sign at a time, as this program opens it, and most_sessions those that the token allows.
func info(i hsm.TokenInfo) cli.Part {
	most := "the token tells no limit"
	if i.MostOpen > 0 {
		most = fmt.Sprintf("the token allows %d", i.MostOpen)
	}
	of := cli.Record{
		cli.Shown("label", "token", i.Label, fmt.Sprintf("%s, serial number %s, %s %s", i.Label, i.Serial, i.Manufacturer, i.Model)),
		cli.F("serial", "", i.Serial), cli.F("manufacturer", "", i.Manufacturer), cli.F("model", "", i.Model), cli.F("module", "library", i.Module),
		cli.Shown("mechanisms", "mechanisms", i.Mechanisms, cmp.Or(strings.Join(i.Mechanisms, ", "), "none that is needed")),
		cli.F("sessions", "", i.Sessions), cli.Shown("most_sessions", "sessions", cli.OrNil(i.MostOpen), most),
	}
	return cli.Object("token", of)
}

// row returns a key with its certificates; null: no database was asked.
func row(k hsm.KeyInfo, known map[[32]byte][]certificate) cli.Record {
	certificates, text := any(nil), "not looked at"
	if known != nil {
		certificates = cli.Records(known[k.Fingerprint], certificate.record)
		var all []string
		for _, c := range known[k.Fingerprint] {
			all = append(all, fmt.Sprintf("%s %s until %s", c.issuer, c.state, cli.Stamp(c.notAfter)))
		}
		text = cmp.Or(strings.Join(all, "; "), "none")
	}
	return cli.Record{
		cli.F("label", "LABEL", k.Label), cli.F("kind", "KIND", string(k.Kind)), cli.F("fingerprint", "FINGERPRINT", k.Fingerprint), cli.F("id", "ID", k.ID),
		cli.Shown("certificates", "CERTIFICATES", certificates, text),
	}
}
