package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"ocspfleet/db"
	"ocspfleet/ops/ingest"
)

// fileView is what was read.
type fileView struct {
	Issuer   string           `json:"issuer"`
	File     string           `json:"file"`
	SHA256   string           `json:"sha256"`
	CRLs     []crlView        `json:"crls,omitempty"`
	Rows     int64            `json:"rows"`
	Repeated int64            `json:"repeated"`
	Pending  int64            `json:"pending"` // revocation asked for and not done there
	Skipped  map[string]int64 `json:"skipped"`
	Bad      int64            `json:"bad"`      // odd entries that --skip-bad left out, or took in part
	Warnings []string         `json:"warnings"` // of what cannot be right, though every row is good
	Notes    []noteView       `json:"notes"`    // the first 20 pending, skipped and bad
	// States are the rows by what the file tells of them.
	States stateView `json:"states"`
	// Points are proposed for forbidden_urls in the CA's own configuration.
	Points []string `json:"distribution_points"`
}

type stateView struct {
	Good    int64 `json:"good"`
	Revoked int64 `json:"revoked"`
	Held    int64 `json:"held"`
}

type crlView struct {
	Name       string  `json:"name"`  // empty: it is the only one
	Shard      string  `json:"shard"` // which part of the list; empty: all
	Number     *string `json:"number"`
	ThisUpdate string  `json:"this_update"`
	NextUpdate *string `json:"next_update"`
}

type noteView struct {
	Kind  string `json:"kind"`
	Place string `json:"place"`
	Text  string `json:"text"`
}

func viewFile(file *ingest.File, plan *ingest.Plan, issuer string) fileView {
	v := fileView{
		Issuer: issuer, File: file.Name, SHA256: fmt.Sprintf("%x", file.SHA256), Rows: file.Rows, Repeated: file.Repeated,
		Pending: file.Pending, Skipped: file.Skipped, Notes: []noteView{}, Points: append([]string{}, file.Points...),
		Bad: file.Bad, Warnings: append([]string{}, file.Warnings...),
		States: stateView{plan.States[db.StateGood], plan.States[db.StateRevoked], plan.States[db.StateHeld]},
	}
	for _, n := range file.Notes {
		v.Notes = append(v.Notes, noteView{string(n.Kind), n.Place.String(), n.Text})
	}
	for _, crl := range file.CRLs {
		one := crlView{Name: crl.Name, Shard: crl.Shard, ThisUpdate: stamp(crl.ThisUpdate), NextUpdate: stampOrNil(crl.NextUpdate)}
		if crl.Number != nil {
			one.Number = new(crl.Number.String())
		}
		v.CRLs = append(v.CRLs, one)
	}
	return v
}

func (v fileView) tell(t *table) {
	t.row("file", v.File)
	t.row("sha256", v.SHA256)
	t.row("issuer", v.Issuer)
	for _, crl := range v.CRLs {
		if len(v.CRLs) > 1 {
			t.row(crl.Name, fmt.Sprintf("number %s, made at %s, ends at %s", orDash(crl.Number), crl.ThisUpdate, orDash(crl.NextUpdate)))
			continue
		}
		t.row("CRL number", orDash(crl.Number))
		t.row("CRL made at", crl.ThisUpdate)
		t.row("CRL ends at", orDash(crl.NextUpdate))
	}
	t.row("rows", fmt.Sprintf("%d: %d good, %d revoked, %d on hold", v.Rows, v.States.Good, v.States.Revoked, v.States.Held))
	for _, warning := range v.Warnings {
		t.row("WARNING", warning)
	}
	if v.Bad > 0 {
		t.row("ODD ENTRIES: see below", strconv.FormatInt(v.Bad, 10))
	}
	if v.Repeated > 0 {
		t.row("repeated rows", strconv.FormatInt(v.Repeated, 10))
	}
	if v.Pending > 0 {
		t.row("PENDING: revocation asked for, not done there", strconv.FormatInt(v.Pending, 10))
	}
	for _, url := range v.Points {
		t.row("forbidden_urls at the CA (issuers."+v.Issuer+")", url)
	}
	for _, reason := range slices.Sorted(maps.Keys(v.Skipped)) {
		t.row("skipped: "+reason, strconv.FormatInt(v.Skipped[reason], 10))
	}
}

// tellNotes lists pending and skipped entries.
func (v fileView) tellNotes(t *table) {
	if len(v.Notes) == 0 {
		return
	}
	t.line("")
	t.row("PLACE", "KIND", "NOTE")
	for _, n := range v.Notes {
		t.row(n.Place, n.Kind, n.Text)
	}
}
