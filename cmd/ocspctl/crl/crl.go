package crl

import (
	"context"
	"fmt"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"

	"github.com/spf13/cobra"
)

// Noun is the command with its verbs.
func Noun(p *cli.Program) *cobra.Command {
	return p.Verbs("crl", "the CRLs of responder certificates, served by every site at /crl/NAME",
		ctl.AtMaster(&issue{Life: issuance.CRLLife}), ctl.AtMaster(&show{}),
		ctl.AtMaster(&bundle{Count: 8, Every: issuance.CRLEvery, Life: issuance.CRLLife}), ctl.AtMaster(&release{}))
}

// list is a CRL as ocspctl shows it.
type list struct {
	issuance.CRLContent
	issuer  string
	number  any // a text; nil: it is not signed yet
	entries int
	file    string // where it was written, too
}

// record is a CRL. Without a URL it speaks of all certificates.
func (l list) record() cli.Record {
	return cli.Record{
		cli.F("issuer", "ISSUER", l.issuer), cli.F("number", "NUMBER", l.number), cli.F("this_update", "THIS UPDATE", l.ThisUpdate),
		cli.F("next_update", "NEXT UPDATE", l.NextUpdate), cli.F("entries", "ENTRIES", l.entries), cli.F("url", "URL", cli.OrNil(l.URL)),
		cli.F("file", "FILE", cli.OrNil(l.file)),
	}
}

// gap says in words what a CRL lacks; empty: nothing.
func gap(ctx context.Context, m *ctl.Master, issuer db.Issuer, der []byte) (string, error) {
	missing, back, err := issuance.CRLGaps(ctx, m.Store, issuer, der, m.Now())
	if err != nil {
		return "", err
	}
	var gaps []string
	for _, gap := range []struct {
		what    string
		serials []db.Serial
	}{{"does not name revoked", missing}, {"still names restored", back}} {
		serials := gap.serials
		names := make([]string, 0, 3)
		for _, serial := range serials[:min(3, len(serials))] {
			names = append(names, serial.String())
		}
		if len(serials) > 3 {
			names = append(names, "...")
		}
		if len(serials) > 0 {
			gaps = append(gaps, fmt.Sprintf("%s certificates (%d: %s)", gap.what, len(serials), strings.Join(names, ", ")))
		}
	}
	return strings.Join(gaps, ", "), nil
}
