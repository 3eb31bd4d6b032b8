package signer

import (
	"context"
	"errors"
	"time"

	"ocspfleet/db"
)

// Lookup asks for a serial that the copy says was never issued: it may have been issued a
// moment ago. An error means that there was no answer that can be trusted; it does not name the
// serial. It must end within a second or so, also when ctx does not. Safe for concurrent use.
type Lookup interface {
	Ask(ctx context.Context, issuer [32]byte, serial db.Serial, at db.Horizon) (LookupAnswer, error)
}

// LookupAnswer is the master's answer on one serial, verified, and newer than the copy.
type LookupAnswer struct {
	Issued bool
	Status db.Status // where Issued
	AsOf   time.Time // the master's clock
	Until  time.Time // the answer may be used until then
}

// lookupTimeout bounds the time for all lookups of one request: the client waits.
const lookupTimeout = time.Second

// mayAsk says whether to ask the master: only where the copy says "never issued" and a Lookup
// is configured; never about a row of the copy.
//
// Issuers of profile br are left out: the master's answer is valid for minutes, and each of
// their answers must be valid for 8 h (BR 4.9.10).
func (r *Responder) mayAsk(issuer *served, f copyStatus, d decision, signerEnd, now time.Time) bool {
	return r.lookup != nil && !f.issued && d.class != TryLater && now.Before(signerEnd) && issuer.policy.Profile != db.ProfileBR
}

// askMaster decides by the master's answer on the serial that d was decided for. Without an
// answer: unauthorized, since the serial may have been issued.
func (r *Responder) askMaster(ctx context.Context, w *work, issuer *served, serial db.Serial, h db.Horizon, d decision, signerEnd, now time.Time) decision {
	if serial.Check() != nil {
		return d
	}
	if w.askBy.IsZero() {
		w.askBy = time.Now().Add(lookupTimeout)
	}
	ctx, cancel := context.WithDeadline(ctx, w.askBy)
	defer cancel()
	answer, err := r.lookup.Ask(ctx, issuer.authority.key, serial, h)
	if err == nil && answer.AsOf.After(now.Add(db.MaxClockSkew)) {
		err = errFuture
	}
	switch {
	case err != nil:
		r.metrics.lookups[lookupUnanswered].Inc()
		r.trouble(ctx, troubleLookup, "question for a serial unanswered", err)
		return decision{class: Unauthorized}
	case !answer.Issued: // the copy is right: d stands
		r.metrics.lookups[lookupAbsent].Inc()
		return d
	}
	r.metrics.lookups[lookupIssued].Inc()
	return issuer.policy.fromMaster(answer, signerEnd, now)
}

var errFuture = errors.New("the answer is of the future: check both clocks")

// fromMaster decides for a certificate that the copy does not have yet. The answer ends no
// later than the master's, and is refreshed soon: the copy will have the row by then.
func (p policy) fromMaster(answer LookupAnswer, signerEnd, now time.Time) decision {
	d := decision{class: Good}
	if answer.Status.Revoked {
		d = revoked(answer.Status, now)
	}
	known := earlier(answer.AsOf, now).Truncate(time.Second).Add(-p.Backdate)
	d = p.signed(d, known, min(p.Validity, answer.Until.Sub(known)), signerEnd, now)
	d.maxAge = min(d.maxAge, absentMaxAge)
	d.lookedUp = true
	return d
}

// The results of a lookup: the labels of ocspd_lookup_questions_total.
const (
	lookupIssued     = "issued"
	lookupAbsent     = "absent"
	lookupUnanswered = "unanswered"
)
