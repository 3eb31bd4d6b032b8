package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"ocspfleet/db"
	"ocspfleet/sync/recovery"
)

// lostView is one certificate that the master lost.
type lostView struct {
	certificate
	Effect db.Effect `json:"effect"` // what entering it does
	Here   *string   `json:"here"`   // what the master says; null: nothing
	Site   *string   `json:"site"`   // whose own it is
}

func viewLost(rows []recovery.Row) []lostView {
	views := []lostView{}
	for _, row := range rows {
		v := lostView{certificate: showStatus(row.Issuer.Name, row.Serial, row.Status), Effect: row.Effect, Site: textOrNil(row.Site)}
		if !row.Here.NotAfter.IsZero() {
			v.Here = new(string(row.Here.State()))
		}
		views = append(views, v)
	}
	return views
}

// shownLost bounds a table; --output json has all.
const shownLost = 100

func tellLost(t *table, views []lostView) {
	for _, v := range views[:min(len(views), shownLost)] {
		t.row(v.Issuer, v.Serial, v.Status, orDash(v.RevokedAt), orDash(v.Reason), orDash(v.Here))
	}
	if more := len(views) - shownLost; more > 0 {
		t.line(fmt.Sprintf("and %d more: --output json", more))
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
	Corrections  []certificate      `json:"corrections"`
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
		From: plan.Recovery.From, Epoch: h.Checkpoint.Epoch, Position: h.Checkpoint.Position, KeySet: h.KeySet, AsOf: stamp(h.Checkpoint.AsOf),
		Good: counts[db.StateGood], Held: counts[db.StateHeld], Revoked: counts[db.StateRevoked],
		Certificates: viewLost(plan.Enter), Stays: viewLost(plan.Stays), Issuers: []missingIssuer{}, Policies: append([]string{}, plan.Policies...),
		Responders: []missingResponder{}, ClosedPins: plan.Pins, Corrections: []certificate{},
	}
	for _, i := range plan.Issuers {
		v.Issuers = append(v.Issuers, missingIssuer{i.Name, hex.EncodeToString(i.Key[:]), plan.Waiting[i.ID]})
	}
	for _, r := range plan.Responders {
		v.Responders = append(v.Responders, missingResponder{r.Site, h.Issuers[r.IssuerID].Name, r.Serial.String()})
	}
	for _, c := range plan.Corrections {
		v.Corrections = append(v.Corrections, showStatus(h.Issuers[c.IssuerID].Name, c.Serial, db.Status{Revoked: true, RevokedAt: c.RevokedAt, Reason: db.ReasonNone}))
	}
	return v
}

func (v planView) tell(t *table) {
	t.row("from", v.From)
	t.row("position", fmt.Sprintf("%d of epoch %d, as of %s", v.Position, v.Epoch, v.AsOf))
	t.row("lost", fmt.Sprintf("%d good, %d on hold, %d revoked", v.Good, v.Held, v.Revoked))
	if len(v.Certificates) > 0 {
		t.line("")
		t.row("ISSUER", "SERIAL", "BECOMES", "AT", "REASON", "HERE")
		tellLost(t, v.Certificates)
	}
	if len(v.Stays) > 0 {
		t.line("The master says otherwise, and that stays (release, revoke or correct it where it is wrong):")
		tellLost(t, v.Stays)
	}
	for _, i := range v.Issuers {
		t.line(fmt.Sprintf("Issuer %s is not here, and %d certificates wait for it: ocspctl issuer add, then once more.", i.Name, i.Certificates))
	}
	for _, name := range v.Policies {
		t.line(fmt.Sprintf("The policy of issuer %s was changed since: ocspctl issuer set.", name))
	}
	for _, r := range v.Responders {
		t.line(fmt.Sprintf("Site %s has certificate %s of issuer %s, which is not here: ocspctl fleet renew, or responder add.", r.Site, r.Serial, r.Issuer))
	}
	if v.ClosedPins > 0 {
		t.line(strconv.Itoa(v.ClosedPins) + " TLS keys were closed since: a site that was revoked or suspended is active here: ocspctl responder revoke or suspend.")
	}
	for _, c := range v.Corrections {
		t.line(fmt.Sprintf("The revocation of %s %s at %s was taken back since: ocspctl cert correct once more.", c.Issuer, c.Serial, orDash(c.RevokedAt)))
	}
}

// recoveryView is what feed recover prints.
type recoveryView struct {
	planView
	again
}

func (v recoveryView) tell(t *table) {
	v.planView.tell(t)
	if len(v.Certificates) == 0 {
		t.line("The master has every certificate that its feed has.")
		return
	}
	t.row("sum", v.Sum)
	v.again.tell(t)
}

// sumOf names batches in one word, for two persons to compare.
func sumOf(batches []string) string {
	sum := sha256.Sum256([]byte(strings.Join(batches, "\n")))
	return hex.EncodeToString(sum[:16])
}
