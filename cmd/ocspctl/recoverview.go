package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/recovery"
)

// lostView is one certificate that the master lost.
type lostView struct {
	ctl.Certificate
	Effect masterdb.Effect `json:"effect"` // what entering it does
	Here   *string         `json:"here"`   // what the master says; null: nothing
	Site   *string         `json:"site"`   // whose own it is
}

func viewLost(rows []recovery.Row) []lostView {
	views := []lostView{}
	for _, row := range rows {
		v := lostView{Certificate: ctl.ShowStatus(row.Issuer.Name, row.Serial, row.Status), Effect: row.Effect, Site: cli.TextOrNil(row.Site)}
		if !row.Here.NotAfter.IsZero() {
			v.Here = new(string(row.Here.State()))
		}
		views = append(views, v)
	}
	return views
}

// shownLost bounds a table; --output json has all.
const shownLost = 100

func tellLost(t *cli.Table, views []lostView) {
	for _, v := range views[:min(len(views), shownLost)] {
		t.Row(v.Issuer, v.Serial, v.Status, cli.OrDash(v.RevokedAt), cli.OrDash(v.Reason), cli.OrDash(v.Here))
	}
	if more := len(views) - shownLost; more > 0 {
		t.Line(fmt.Sprintf("and %d more: --output json", more))
	}
}

// planView is what a master lacks of what its keys signed.
type planView struct {
	From         string             `json:"from"`
	Epoch        int64              `json:"epoch"`
	Position     int64              `json:"position"`
	KeySet       int64              `json:"keys"`
	AsOf         string             `json:"as_of"`
	Good         int64              `json:"good"`
	Held         int64              `json:"held"`
	Revoked      int64              `json:"revoked"`
	Certificates []lostView         `json:"certificates"` // to be entered
	Stays        []lostView         `json:"stays"`        // otherwise at the master, and left so
	Issuers      []missingIssuer    `json:"issuers"`      // the master has not
	Policies     []string           `json:"policies"`     // issuers whose policy is older at the master
	Responders   []missingResponder `json:"responder_certificates"`
	ClosedPins   int                `json:"closed_pins"` // TLS keys of sites that were closed since
	Corrections  []ctl.Certificate  `json:"corrections"`
}

type missingIssuer struct {
	Name         string `json:"name"`
	KeyHash      string `json:"key_hash"`
	Certificates int64  `json:"certificates"` // that wait for it
}

type missingResponder struct {
	Site   string `json:"site"`
	Issuer string `json:"issuer"`
	Serial string `json:"serial"`
}

func (p *program) viewPlan(h *recovery.History, plan *recovery.Plan) planView {
	counts := plan.Recovery.Counts()
	v := planView{
		From: plan.Recovery.From, Epoch: h.Checkpoint.Epoch, Position: h.Checkpoint.Position, KeySet: h.KeySet, AsOf: cli.Stamp(h.Checkpoint.AsOf),
		Good: counts[db.StateGood], Held: counts[db.StateHeld], Revoked: counts[db.StateRevoked],
		Certificates: viewLost(plan.Enter), Stays: viewLost(plan.Stays), Issuers: []missingIssuer{}, Policies: append([]string{}, plan.Policies...),
		Responders: []missingResponder{}, ClosedPins: plan.Pins, Corrections: []ctl.Certificate{},
	}
	for _, i := range plan.Issuers {
		v.Issuers = append(v.Issuers, missingIssuer{i.Name, hex.EncodeToString(i.Key[:]), plan.Waiting[i.ID]})
	}
	for _, r := range plan.Responders {
		v.Responders = append(v.Responders, missingResponder{r.Site, h.Issuers[r.IssuerID].Name, r.Serial.String()})
	}
	for _, c := range plan.Corrections {
		v.Corrections = append(v.Corrections, ctl.ShowStatus(h.Issuers[c.IssuerID].Name, c.Serial, db.Status{Revoked: true, RevokedAt: c.RevokedAt, Reason: db.ReasonNone}))
	}
	return v
}

func (v planView) tell(t *cli.Table) {
	t.Row("from", v.From)
	t.Row("position", fmt.Sprintf("%d of epoch %d, as of %s", v.Position, v.Epoch, v.AsOf))
	t.Row("lost", fmt.Sprintf("%d good, %d on hold, %d revoked", v.Good, v.Held, v.Revoked))
	if len(v.Certificates) > 0 {
		t.Line("")
		t.Row("ISSUER", "SERIAL", "BECOMES", "AT", "REASON", "HERE")
		tellLost(t, v.Certificates)
	}
	if len(v.Stays) > 0 {
		t.Line("The master says otherwise, and that stays (release, revoke or correct it where it is wrong):")
		tellLost(t, v.Stays)
	}
	for _, i := range v.Issuers {
		t.Line(fmt.Sprintf("Issuer %s is not here, and %d certificates wait for it: ocspctl issuer add, then once more.", i.Name, i.Certificates))
	}
	for _, name := range v.Policies {
		t.Line(fmt.Sprintf("The policy of issuer %s was changed since: ocspctl issuer set.", name))
	}
	for _, r := range v.Responders {
		t.Line(fmt.Sprintf("Site %s has certificate %s of issuer %s, which is not here: ocspctl fleet renew, or responder add.", r.Site, r.Serial, r.Issuer))
	}
	if v.ClosedPins > 0 {
		t.Line(strconv.Itoa(v.ClosedPins) + " TLS keys were closed since: a site that was revoked or suspended is active here: ocspctl responder revoke or suspend.")
	}
	for _, c := range v.Corrections {
		t.Line(fmt.Sprintf("The revocation of %s %s at %s was taken back since: ocspctl cert correct once more.", c.Issuer, c.Serial, cli.OrDash(c.RevokedAt)))
	}
}

// recoveryView is what feed recover prints.
type recoveryView struct {
	planView
	again
}

func (v recoveryView) tell(t *cli.Table) {
	v.planView.tell(t)
	if len(v.Certificates) == 0 {
		t.Line("The master has every certificate that its feed has.")
		return
	}
	t.Row("sum", v.Sum)
	v.again.tell(t)
}

// sumOf names batches in one word, for two persons to compare.
func sumOf(batches []string) string {
	sum := sha256.Sum256([]byte(strings.Join(batches, "\n")))
	return hex.EncodeToString(sum[:16])
}
