package issuer

import (
	"context"
	"crypto/x509"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("issuer", "the CAs whose certificates the fleet answers for",
		ctl.AtMaster(&add{policy: defaults}), ctl.AtMaster(&set{}), ctl.AtMaster(&list{}))
}

// subject returns the subject and the end of an issuer's certificate.
func subject(i db.Issuer) (name, notAfter string) {
	certificate, err := x509.ParseCertificate(i.Certificate)
	if err != nil { // one bad row hides no other; sites use the file that they pin
		return fmt.Sprintf("UNREADABLE (%v): ocspctl issuer set --cert FILE", err), ""
	}
	return certificate.Subject.String(), cli.Stamp(certificate.NotAfter)
}

// record returns an issuer, a line for each field; id 0: it is not there yet.
func record(i db.Issuer) cli.Record {
	name, notAfter := subject(i)
	p := i.Policy
	return cli.Record{
		cli.F("id", "", int32(i.ID)), cli.F("name", "name", i.Name), cli.F("subject", "subject", name), cli.F("not_after", "not after", notAfter),
		cli.F("key_hash", "key hash", i.Key), cli.F("validity", "validity", p.Validity), cli.F("backdate", "backdate", p.Backdate),
		cli.F("max_staleness", "max staleness", p.MaxStaleness), cli.F("fresh_for_unknown", "fresh for unknown", p.FreshForUnknown),
		cli.F("http_max_age", "http max age", p.HTTPMaxAge), cli.F("refresh", "refresh", p.Refresh), cli.F("never_issued", "never issued", p.NeverIssued),
		cli.F("profile", "profile", p.Profile), cli.F("crl_url", "crl url", p.CRLURL),
		cli.Shown("archive_cutoff", "archive cutoff", p.ArchiveCutoff, fmt.Sprint(p.ArchiveCutoff)), cli.F("policy_version", "", p.Version),
	}
}

// row returns an issuer in the list for people.
func row(i db.Issuer) cli.Record {
	name, notAfter := subject(i)
	return cli.Record{
		cli.F("", "NAME", i.Name), cli.F("", "PROFILE", i.Policy.Profile), cli.F("", "VALIDITY", i.Policy.Validity),
		cli.F("", "NEVER ISSUED", i.Policy.NeverIssued), cli.F("", "CA UNTIL", notAfter), cli.F("", "SUBJECT", name),
	}
}

// list is issuer list.
type list struct{}

func (list) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "show the issuers and their policies",
		Long: `Shows what the master says of each issuer: its profile, for how long answers
hold, and what is said of serials that were never issued.`,
		Example: "ocspctl issuer list --output json",
	}
}

func (list) Run(ctx context.Context, m *ctl.Master) error {
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return err
	}
	return m.Show(cli.List("", issuers, row), cli.Quiet(cli.List("issuers", issuers, record)))
}
