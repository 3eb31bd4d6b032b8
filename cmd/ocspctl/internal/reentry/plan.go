package reentry

import (
	"cmp"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/sync/recovery"
)

// Row returns one certificate that the master lost: the effect of entering it, the master's
// status, and the site that owns it.
func Row(row recovery.Row) cli.Record {
	return append(status(row).Record(), cli.F("effect", "", row.Effect), cli.F("here", "", cli.OrNil(here(row))), cli.F("site", "", cli.OrNil(row.Site)))
}

func status(row recovery.Row) ctl.Certificate {
	return ctl.ShowStatus(row.Issuer.Name, row.Serial, row.Status)
}

// here returns the master's status; empty: none.
func here(row recovery.Row) string {
	if row.Here.NotAfter.IsZero() {
		return ""
	}
	return string(row.Here.State())
}

// shown bounds a table; --output json has all.
const shown = 100

// Header prints the columns of TellRows.
func Header(t *cli.Table) { t.Row("ISSUER", "SERIAL", "BECOMES", "AT", "REASON", "HERE") }

// TellRows shows certificates that the master lost.
func TellRows(t *cli.Table, rows []recovery.Row) {
	for _, row := range rows[:min(len(rows), shown)] {
		c := status(row)
		t.Row(c.Issuer, c.Serial, c.Status, cli.OrDash(c.RevokedAt), cli.OrDash(c.Reason), cmp.Or(here(row), "-"))
	}
	if more := len(rows) - shown; more > 0 {
		t.Linef("and %d more: --output json", more)
	}
}

// Plan is what a master lacks of what its keys signed, as a part of a document.
type Plan struct {
	*recovery.Plan
	History *recovery.History
}

func (p Plan) correction(c db.Correction) ctl.Certificate {
	return ctl.ShowStatus(p.History.Issuers[c.IssuerID].Name, c.Serial, db.Status{Revoked: true, RevokedAt: c.RevokedAt, Reason: db.ReasonNone})
}

// Fields returns all findings.
func (p Plan) Fields() cli.Record {
	counts, at := p.Recovery.Counts(), p.History.Checkpoint
	return cli.Record{
		cli.F("from", "", p.Recovery.From), cli.F("epoch", "", at.Epoch), cli.F("position", "", at.Position), cli.F("keys", "", p.History.KeySet), cli.F("as_of", "", at.AsOf),
		cli.F("good", "", counts[db.StateGood]), cli.F("held", "", counts[db.StateHeld]), cli.F("revoked", "", counts[db.StateRevoked]),
		cli.F("certificates", "", cli.Records(p.Enter, Row)), cli.F("stays", "", cli.Records(p.Stays, Row)), // those are otherwise at the master, and left so
		cli.F("issuers", "", cli.Records(p.Issuers, func(i db.Issuer) cli.Record { // the master has not, with the certificates that wait for them
			return cli.Record{cli.F("name", "", i.Name), cli.F("key_hash", "", i.Key[:]), cli.F("certificates", "", p.Waiting[i.ID])}
		})),
		cli.F("policies", "", p.Policies), // issuers whose policy is older at the master
		cli.F("responder_certificates", "", cli.Records(p.Responders, func(r db.ResponderCertificate) cli.Record {
			return cli.Record{cli.F("site", "", r.Site), cli.F("issuer", "", p.History.Issuers[r.IssuerID].Name), cli.F("serial", "", r.Serial)}
		})),
		cli.F("closed_pins", "", p.Pins), // TLS keys of sites that were closed since
		cli.F("corrections", "", cli.Records(p.Corrections, func(c db.Correction) cli.Record { return p.correction(c).Record() })),
	}
}

// Tell shows what is lost, and names the command that restores what certificates do not include.
func (p Plan) Tell(t *cli.Table) {
	counts, at := p.Recovery.Counts(), p.History.Checkpoint
	t.Row("from", p.Recovery.From)
	t.Row("position", fmt.Sprintf("%d of epoch %d, as of %s", at.Position, at.Epoch, cli.Stamp(at.AsOf)))
	t.Row("lost", fmt.Sprintf("%d good, %d on hold, %d revoked", counts[db.StateGood], counts[db.StateHeld], counts[db.StateRevoked]))
	if len(p.Enter) > 0 {
		t.Line("")
		Header(t)
		TellRows(t, p.Enter)
	}
	if len(p.Stays) > 0 {
		t.Line("The master says otherwise, and that stays (release, revoke or correct it where it is wrong):")
		TellRows(t, p.Stays)
	}
	for _, i := range p.Issuers {
		t.Linef("Issuer %s is not here, and %d certificates wait for it: ocspctl issuer add, then once more.", i.Name, p.Waiting[i.ID])
	}
	for _, name := range p.Policies {
		t.Linef("The policy of issuer %s was changed since: ocspctl issuer set.", name)
	}
	for _, r := range p.Responders {
		t.Linef("Site %s has certificate %s of issuer %s, which is not here: ocspctl fleet renew, or responder add.", r.Site, r.Serial, p.History.Issuers[r.IssuerID].Name)
	}
	if p.Pins > 0 {
		t.Linef("%d TLS keys were closed since: a site that was revoked or suspended is active here: ocspctl responder revoke or suspend.", p.Pins)
	}
	for _, c := range p.Corrections {
		v := p.correction(c)
		t.Linef("The revocation of %s %s at %s was taken back since: ocspctl cert correct once more.", v.Issuer, v.Serial, cli.OrDash(v.RevokedAt))
	}
}
