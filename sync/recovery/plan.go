package recovery

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// Plan is the part of a history that a master lacks. It is empty if nothing is lost.
type Plan struct {
	Recovery masterdb.Recovery // the rows that can be entered
	Enter    []Row             // the same, with the master's present rows, by issuer and serial
	Stays    []Row             // different at the master, and left so
	// Issuers are the issuers that the master lacks; Waiting counts their certificates.
	Issuers     []db.Issuer
	Waiting     map[db.IssuerID]int64
	Policies    []string // issuers with an older policy here
	Responders  []db.ResponderCertificate
	Pins        int             // TLS keys of sites that were closed since
	Corrections []db.Correction // by the issuers' numbers of the history
}

// Row is one certificate of a plan.
type Row struct {
	Issuer db.Issuer // at the master
	Site   string    // the site whose own certificate it is; empty: none
	masterdb.EffectHere
}

// Lost says whether the master lacks anything.
func (p *Plan) Lost() bool {
	return len(p.Enter) > 0 || p.Others()
}

// Others says whether the master lacks rows that are not entered with the certificates.
func (p *Plan) Others() bool {
	return len(p.Issuers)+len(p.Policies)+len(p.Responders)+p.Pins+len(p.Corrections) > 0
}

func (p *Plan) String() string {
	text := fmt.Sprintf("%d certificates", len(p.Enter))
	if p.Others() {
		text += ", and what is named beside them"
	}
	return text
}

// Compare finds what the master lacks. A site's own certificate that is on hold is never
// entered: the site is suspended, with all its certificates.
func Compare(ctx context.Context, master *masterdb.DB, h *History, from string) (*Plan, error) {
	p := &Plan{Waiting: map[db.IssuerID]int64{}}
	p.Recovery = masterdb.Recovery{From: from, Epoch: h.Checkpoint.Epoch, Position: h.Checkpoint.Position}
	here, err := p.compareLists(ctx, master, h)
	if err != nil {
		return nil, err
	}
	sites := map[string]string{}
	for _, r := range h.Responders {
		sites[string(db.AppendCertificateKey(nil, r.IssuerID, r.Serial))] = r.Site
	}
	batches := map[db.IssuerID][]masterdb.Row{}
	look := func(there db.IssuerID) error {
		at := here[there]
		effects, err := master.Effects(ctx, at.issuer.ID, batches[there])
		batches[there] = nil
		for _, e := range effects {
			row := Row{at.issuer, sites[string(db.AppendCertificateKey(nil, there, e.Serial))], e}
			if e.Enters() && (row.Site == "" || e.Status.State() != db.StateHeld) {
				p.Enter = append(p.Enter, row)
			} else {
				p.Stays = append(p.Stays, row)
			}
		}
		return err
	}
	err = h.Certificates(func(there db.IssuerID, serial db.Serial, s db.Status) error {
		at, known := here[there]
		switch {
		case !known:
			p.Waiting[there]++
			return nil
		case s.NotAfter.Before(at.purged):
			return nil
		}
		batches[there] = append(batches[there], masterdb.Row{Serial: slices.Clone(serial), Status: s})
		if len(batches[there]) < masterdb.RecoveryBatch {
			return nil
		}
		return look(there)
	})
	for there := range batches {
		if err == nil {
			err = look(there)
		}
	}
	if err != nil {
		return nil, err
	}
	for _, rows := range [][]Row{p.Enter, p.Stays} {
		slices.SortFunc(rows, func(a, b Row) int {
			return cmp.Or(cmp.Compare(a.Issuer.ID, b.Issuer.ID), bytes.Compare(a.Serial, b.Serial))
		})
	}
	p.Recovery.Batches = Batches(p.Enter)
	return p, nil
}

// Batches returns sorted rows in the batches in which they are entered.
func Batches(rows []Row) []masterdb.RecoverBatch {
	var batches []masterdb.RecoverBatch
	for _, row := range rows {
		last := len(batches) - 1
		if last < 0 || batches[last].Issuer != row.Issuer.ID || len(batches[last].Rows) == masterdb.RecoveryBatch {
			batches = append(batches, masterdb.RecoverBatch{Issuer: row.Issuer.ID})
			last++
		}
		batches[last].Rows = append(batches[last].Rows, row.Row)
	}
	return batches
}

// issuerHere is an issuer of the history in its state at the master.
type issuerHere struct {
	issuer db.Issuer
	purged time.Time // certificates that ended before are deleted on purpose
}

// compareLists finds what the master lacks besides certificates. It returns the master's
// issuers by their numbers in the history.
func (p *Plan) compareLists(ctx context.Context, master *masterdb.DB, h *History) (map[db.IssuerID]issuerHere, error) {
	atMaster, err := master.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	here := map[db.IssuerID]issuerHere{}
	for id, i := range h.Issuers {
		at := slices.IndexFunc(atMaster, func(m db.Issuer) bool { return m.Key == i.Key })
		if at < 0 {
			p.Issuers = append(p.Issuers, i)
			continue
		}
		m := atMaster[at]
		purged, err := master.PurgedBefore(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		here[id] = issuerHere{m, purged}
		if i.Policy.Version > m.Policy.Version {
			p.Policies = append(p.Policies, m.Name)
		}
	}
	slices.SortFunc(p.Issuers, func(a, b db.Issuer) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(p.Policies)
	responders, err := master.ResponderCertificates(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range h.Responders {
		if !slices.ContainsFunc(responders, func(m db.ResponderCertificate) bool { return m.Fingerprint == r.Fingerprint }) {
			p.Responders = append(p.Responders, r)
		}
	}
	pins, err := master.ClosedPins(ctx)
	if err != nil {
		return nil, err
	}
	for _, pin := range h.Pins {
		if !pins[[32]byte(pin)] {
			p.Pins++
		}
	}
	known := map[string]bool{}
	err = master.Corrections(ctx, func(c db.Correction) error {
		known[string(c.Note)] = true
		return nil
	})
	for _, c := range h.Corrections {
		if !known[string(c.Note)] {
			p.Corrections = append(p.Corrections, c)
		}
	}
	return here, err
}
