package ca

import (
	"context"
	"strconv"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/ops/issuance"
)

// Shown is the output of the verbs on bundles: issuer, certificates, CRLs with their place, and
// revocations of a bundle; and what a verb knows of it besides.
type Shown struct {
	issuance.Bundle
	File    string
	Keys    []string // key fingerprints of the certificates; none: they are not shown
	Actions []string // the result for each certificate, or CRL; none: nothing yet
}

// Show prints it with the outcome. The denied keys and certificates are those of the bundle.
func (s Shown) Show(p *cli.Program, o cli.Outcome) error {
	certificates := cli.List("certificates", indices(s.Certificates), s.certificate)
	if len(s.Certificates) > 0 {
		certificates = cli.Below(certificates)
	} else {
		certificates = cli.Quiet(certificates)
	}
	return p.ShowChange(o,
		cli.Record{cli.F("issuer", "issuer", s.Issuer), cli.F("crl_url", "", s.CRLURL), cli.F("file", "file", s.File)},
		certificates,
		cli.Quiet(cli.Record{
			cli.F("crls", "", orNull(cli.Records(indices(s.CRLs), s.crl))), cli.F("revoked", "", orNull(cli.Records(s.Revoked, revoked))),
			cli.F("denied_keys", "", cli.OrNil(s.DeniedKeys)), cli.F("denied_certificates", "", cli.OrNil(s.DeniedCertificates)),
		}),
		cli.Said(s.tell))
}

// tell prints the CRLs and the deny list for people.
func (s Shown) tell(t *cli.Table) {
	if len(s.CRLs) > 0 {
		t.Line("")
		t.Line("CRLs of the responder certificates at " + s.CRLURL + ":")
		cli.List("", indices(s.CRLs), s.crl).Tell(t)
		t.Line("")
		t.Linef("Each names %d revoked certificates.", len(s.Revoked))
		cli.Few("", s.Revoked, revoked).Tell(t)
	}
	for _, key := range s.DeniedKeys {
		t.Row("to the deny list", "key "+key)
	}
	for _, serial := range s.DeniedCertificates {
		t.Row("to the deny list", "certificate "+serial)
	}
}

// certificate returns the certificate at a place; without a serial it is only planned.
func (s Shown) certificate(i int) cli.Record {
	c, key, action := at(s.Certificates, i), at(s.Keys, i), at(s.Actions, i)
	return cli.Record{
		cli.F("site", "SITE", c.Site), cli.F("key_fingerprint", "", cli.OrNil(key)), cli.F("serial", "SERIAL", cli.OrNil(c.Serial)),
		cli.F("not_before", "NOT BEFORE", c.NotBefore), cli.F("not_after", "NOT AFTER", c.NotAfter), cli.F("action", "ACTION", cli.OrNil(action)),
		cli.F("", "KEY FINGERPRINT", key),
	}
}

// crl returns the CRL at a place; without a number it is only planned.
func (s Shown) crl(i int) cli.Record {
	c := at(s.CRLs, i)
	return cli.Record{
		cli.F("number", "NUMBER", Number(c.Number)), cli.F("this_update", "THIS UPDATE", c.ThisUpdate), cli.F("next_update", "NEXT UPDATE", c.NextUpdate),
		cli.F("action", "ACTION", cli.OrNil(at(s.Actions, i))),
	}
}

// revoked returns a certificate that the CRLs of a bundle name.
func revoked(e issuance.BundledEntry) cli.Record {
	return cli.Record{cli.F("serial", "SERIAL", e.Serial), cli.F("revoked_at", "REVOKED AT", e.RevokedAt), cli.F("reason", "REASON", cli.OrNil(e.Reason))}
}

// Number returns a CRL's number, a text in JSON; none until it is planned.
func Number(n int64) any {
	if n == 0 {
		return nil
	}
	return strconv.FormatInt(n, 10)
}

// indices returns the places of a list.
func indices[T any](list []T) []int {
	all := make([]int, len(list))
	for i := range all {
		all[i] = i
	}
	return all
}

// at returns the value at a place, or the zero value if there is none.
func at[T any](list []T, i int) (v T) {
	if i < len(list) {
		v = list[i]
	}
	return v
}

// orNull returns null if there are no records.
func orNull(records []cli.Record) any {
	if len(records) == 0 {
		return nil
	}
	return records
}

// Signed is a bundle that comes back from the CA, as the argument of a verb.
type Signed struct {
	cli.Change
	Path string `arg:"BUNDLE"`
}

// Opened is a bundle that was read, with its issuer.
type Opened struct {
	issuance.Bundle
	CA  *issuance.Authority // without its key
	Act db.Act
}

// Open reads the bundle.
func (s *Signed) Open(ctx context.Context, m *ctl.Master) (o Opened, err error) {
	if o.Act, err = ctl.Act(s.Change); err != nil {
		return o, err
	}
	b, err := ReadBundle(m.Program, s.Path)
	if err != nil {
		return o, err
	}
	issuer, err := m.Issuer(ctx, b.Issuer)
	if err != nil {
		return o, err
	}
	o.Bundle = *b
	o.CA, err = issuance.PublicAuthority(issuer, m.Now())
	return o, err
}

// Pool prints the result of the two verbs on a CA's serials. spare is how many the master has
// afterwards; nil: unknown.
func Pool(p *cli.Program, o cli.Outcome, issuer, file string, count int, spare *int64) error {
	return p.ShowChange(o,
		cli.Quiet(cli.Record{cli.F("issuer", "", issuer), cli.F("count", "", count), cli.F("spare", "", spare), cli.F("file", "", file)}),
		cli.Record{cli.F("", "issuer", issuer), cli.F("", "file", file), cli.F("", "serials", count), cli.Maybe("", "spare at the master", spare)})
}
