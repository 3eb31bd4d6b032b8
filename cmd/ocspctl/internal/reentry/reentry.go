package reentry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db/masterdb"
	"ocspfleet/sync/recovery"
)

// Sum returns one word for batches, for two persons to compare.
func Sum(batches []string) string {
	sum := sha256.Sum256([]byte(strings.Join(batches, "\n")))
	return hex.EncodeToString(sum[:16])
}

// Outcome is the result for lost rows.
type Outcome struct {
	ctl.Requested
	Agreed  bool   // two persons agreed
	Entered int64  // certificates
	Sum     string // names exactly these certificates; empty: there are none
	Limit   ctl.Limit
}

// Enter files a request for rows, or enters them if two persons have agreed to them.
func Enter(ctx context.Context, store *masterdb.DB, r masterdb.Recovery, rows []recovery.Row, c cli.Change) (Outcome, error) {
	o := Outcome{Requested: ctl.Requested{Outcome: c.Outcome(false)}}
	if len(rows) == 0 {
		return o, nil
	}
	o.Sum = Sum(r.Sums())
	counted := int64(0)
	for _, row := range rows {
		if row.Effect == masterdb.ImportRevoke {
			counted++
		}
	}
	var err error
	if o.Limit, err = ctl.LimitOf(ctx, store, counted); err != nil {
		return o, err
	}
	if o.Agreed, err = store.RecoveryAgreed(ctx, r); err != nil {
		return o, err
	}
	o.Changed = o.Agreed || !c.Apply
	if !c.Apply {
		return o, nil
	}
	act, err := ctl.Act(c)
	if err != nil {
		return o, err
	}
	if !o.Agreed {
		if err := c.WantWhy("a request for approval"); err != nil {
			return o, err
		}
		id, expires, err := store.RequestRecovery(ctx, r, act)
		if err == nil {
			o.Requested = ctl.NewRequested(o.Action, id, expires)
		}
		return o, err
	}
	if o.Limit.Refused != nil { // otherwise it would stop in the middle
		return o, o.Limit.Refused
	}
	for _, b := range r.Batches {
		n, err := store.Recover(ctx, b, act)
		if err != nil {
			return o, err
		}
		o.Entered += n
	}
	return o, nil
}

// Fields returns the request's fields, with what was entered.
func (o Outcome) Fields() cli.Record {
	return append(o.Requested.Fields(), cli.F("agreed", "", o.Agreed), cli.F("entered", "", o.Entered), cli.F("sum", "", o.Sum), cli.F("limit", "", o.Limit))
}

// Tell prints what was done, and what to do next.
func (o Outcome) Tell(t *cli.Table) {
	if o.Sum == "" {
		return
	}
	t.Row("sum", o.Sum)
	switch {
	case o.Request != nil:
		t.Linef("Request %d is filed; nothing has changed yet.", *o.Request)
		t.Linef("Another operator compares the sum and runs ocspctl approve %d --apply (until %s);", *o.Request, *o.ExpiresAt)
		t.Line("then run this once more.")
	case o.Applied:
		t.Linef("Done: %d entered.", o.Entered)
	case o.Agreed:
		t.Line("Two persons have agreed: --apply enters them.")
	default:
		t.Line("Nothing was done: this is the plan. --apply files a request for a second person.")
	}
	if o.Limit.Refused != nil && o.Request == nil {
		t.Line(o.Limit.Refused.Error())
	}
}
