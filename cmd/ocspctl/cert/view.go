package cert

import (
	"fmt"
	"maps"
	"slices"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest"
)

// effectTexts are the effects for people; the JSON has their names.
var (
	effects = []masterdb.Effect{
		masterdb.ImportNew, masterdb.ImportRevoke, masterdb.ImportPermanent, masterdb.ImportReason, masterdb.ImportSame, masterdb.ImportKept, masterdb.ImportDetail, masterdb.ImportOtherEnd, masterdb.ImportEnd, masterdb.ImportGuessed, masterdb.ImportNoEnd,
	}
	effectTexts = map[masterdb.Effect]string{
		masterdb.ImportNew: "new: inserted", masterdb.ImportRevoke: "good here, revoked there: revoked", masterdb.ImportPermanent: "on hold here, revoked there: revoked for ever",
		masterdb.ImportReason: "keyCompromise there, another reason here: becomes keyCompromise", masterdb.ImportSame: "the same",
		masterdb.ImportKept: "revoked here, not so there: LEFT REVOKED", masterdb.ImportDetail: "revoked in both, other time or reason: LEFT",
		masterdb.ImportEnd: "the end here was a guess (--not-after): becomes the file's", masterdb.ImportGuessed: "the same; the end here was a guess and stays, since it is later",
		masterdb.ImportOtherEnd: "ANOTHER END OF VALIDITY: nothing is imported", masterdb.ImportNoEnd: "revoked there, never registered here: LEFT OUT (--not-after)",
	}
)

// fileRecord returns what was read. People see the CRLs and the oddities only if there are any.
func fileRecord(file *ingest.File, plan *ingest.Plan, issuer string) cli.Part {
	good, revoked, held := plan.States[db.StateGood], plan.States[db.StateRevoked], plan.States[db.StateHeld]
	r := cli.Record{cli.F("file", "file", file.Name), cli.F("sha256", "sha256", file.SHA256), cli.F("issuer", "issuer", issuer)}
	for _, crl := range file.CRLs {
		if len(file.CRLs) > 1 {
			r = append(r, cli.F("", crl.Name, fmt.Sprintf("number %s, made at %s, ends at %s", cli.Text(crl.Number), cli.Stamp(crl.ThisUpdate), cli.Text(crl.NextUpdate))))
			continue
		}
		r = append(r, cli.F("", "CRL number", crl.Number), cli.F("", "CRL made at", crl.ThisUpdate), cli.F("", "CRL ends at", crl.NextUpdate))
	}
	if len(file.CRLs) > 0 {
		r = append(r, cli.F("crls", "", cli.Records(file.CRLs, crlRecord)))
	}
	r = append(r, cli.Shown("rows", "rows", file.Rows, fmt.Sprintf("%d: %d good, %d revoked, %d on hold", file.Rows, good, revoked, held)), cli.F("warnings", "", file.Warnings))
	for _, warning := range file.Warnings {
		r = append(r, cli.F("", "WARNING", warning))
	}
	r = append(r,
		cli.Some("bad", "ODD ENTRIES: see below", file.Bad), cli.Some("repeated", "repeated rows", file.Repeated),
		cli.Some("pending", "PENDING: revocation asked for, not done there", file.Pending),
		cli.F("distribution_points", "", file.Points), cli.F("skipped", "", file.Skipped),
		cli.F("states", "", cli.Record{cli.F("good", "", good), cli.F("revoked", "", revoked), cli.F("held", "", held)}))
	for _, url := range file.Points {
		r = append(r, cli.F("", "forbidden_urls at the CA (issuers."+issuer+")", url))
	}
	for _, reason := range slices.Sorted(maps.Keys(file.Skipped)) {
		r = append(r, cli.F("", "skipped: "+reason, file.Skipped[reason]))
	}
	return r
}

// crlRecord returns a CRL; without a name it is the only one, without a shard it is the whole
// list.
func crlRecord(crl ingest.CRL) cli.Record {
	return cli.Record{
		cli.F("name", "", crl.Name), cli.F("shard", "", crl.Shard), cli.F("number", "", crl.Number), cli.F("this_update", "", crl.ThisUpdate),
		cli.F("next_update", "", crl.NextUpdate),
	}
}

// counted returns the numbers of rows by effect.
func counted(plan *ingest.Plan, texts map[masterdb.Effect]string) cli.Part {
	counts, lines := cli.Record{}, cli.Record{}
	for _, effect := range effects {
		counts = append(counts, cli.F(string(effect), "", plan.Counts[effect]))
		lines = append(lines, cli.Some("", texts[effect], plan.Counts[effect]))
	}
	return append(lines, cli.F("counts", "", counts))
}

// notes returns the first 20 pending, skipped and odd entries.
func notes(file *ingest.File) cli.Part {
	list := cli.Few("notes", file.Notes, func(n ingest.Note) cli.Record {
		return cli.Record{cli.F("place", "PLACE", n.Place), cli.F("kind", "KIND", n.Kind), cli.F("text", "NOTE", n.Text)}
	})
	if len(file.Notes) == 0 {
		return list
	}
	return cli.Below(list)
}

// difference is a row that differs at the master, or is not there.
type difference struct {
	place          string
	effect         masterdb.Effect
	source, master ctl.Certificate
}

func (d difference) record() cli.Record {
	return cli.Record{
		cli.F("place", "", d.place), cli.F("effect", "", d.effect), cli.F("source", "", d.source), cli.F("master", "", d.master),
	}
}

func differencesOf(plan *ingest.Plan, issuer string) []difference {
	all := make([]difference, len(plan.First))
	for i, d := range plan.First {
		here := ctl.NeverIssued(issuer, d.Serial)
		if d.Effect != masterdb.ImportNew && d.Effect != masterdb.ImportNoEnd {
			here = ctl.ShowStatus(issuer, d.Serial, d.Here)
		}
		all[i] = difference{d.Place.String(), d.Effect, ctl.ShowStatus(issuer, d.Serial, d.Source), here}
	}
	return all
}
