package ctl

import (
	"time"

	"ocspfleet/cmd/internal/cli"
)

// Requested is the outcome of a verb that needs a second person.
type Requested struct {
	cli.Outcome
	Request   *int64  `json:"request"`    // null: only planned
	ExpiresAt *string `json:"expires_at"` // until when it can be approved
}

// NewRequested returns the outcome of a request that was filed; id 0: only planned.
func NewRequested(action string, id int64, expires time.Time) Requested {
	if id == 0 {
		return Requested{Outcome: cli.NewOutcome(action, false, true)}
	}
	return Requested{cli.NewOutcome(action, true, false), &id, cli.StampOrNil(expires)}
}

// Fields returns the outcome's fields, with the request.
func (r Requested) Fields() cli.Record {
	return append(r.Outcome.Fields(), cli.F("request", "", r.Request), cli.F("expires_at", "", r.ExpiresAt))
}

// Tell prints what to do next.
func (r Requested) Tell(t *cli.Table) {
	if r.Request == nil {
		t.Line("Nothing was done: this is the plan. --apply files a request for a second approver.")
		return
	}
	t.Linef("Request %d is filed; nothing has changed yet.", *r.Request)
	t.Linef("It needs a second approver: another operator runs ocspctl approve %d --key FILE --apply (until %s).", *r.Request, *r.ExpiresAt)
}

// Request files a request with --apply, and plans it without.
func Request(c cli.Change, file func() (id int64, expires time.Time, err error)) (Requested, error) {
	var id int64
	var expires time.Time
	var err error
	if c.Apply {
		id, expires, err = file()
	}
	return NewRequested(c.Outcome(true).Action, id, expires), err
}
