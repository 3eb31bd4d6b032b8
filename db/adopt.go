package db

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrRevocationsLost is wrapped if new rows would take back a permanent revocation that the copy
// knows, or could be used for that: a signature on the rows alone does not permit it.
var ErrRevocationsLost = errors.New("permanent revocations would be lost")

// CorrectionLead is how long before the as_of of the change that first contains it a correction
// can have been made: a request for one ends after a day.
const CorrectionLead = 48 * time.Hour

// endedMargin is how long a certificate's revocation is kept after the certificate's end: a clock
// that is wrong by less loses no revocation.
const endedMargin = 24 * time.Hour

// Ended returns the time before which a certificate must have ended so that its revocation may be
// deleted, by a site's clock and the as_of of the newest accepted checkpoint (of the head, if
// nothing is signed). A clock that was set forward alone ends no certificate.
func Ended(clock, asOf time.Time) time.Time {
	if asOf.Before(clock) {
		clock = asOf
	}
	return clock.Add(-endedMargin)
}

// Undoing is what a correction with a valid note takes back.
type Undoing struct {
	Issuer      [32]byte // Issuer.Key
	Serial      Serial
	Was         Status // this state, and no other
	Wrong       Wrong
	NotAfter    time.Time // the correct end, if Wrong is WrongNotAfter
	CorrectedAt time.Time
}

// is says whether u belongs to a row of correction of an issuer with this key.
func (u *Undoing) is(c Correction, key [32]byte) bool {
	return u.Issuer == key && bytes.Equal(u.Serial, c.Serial) && u.Was.RevokedAt.Equal(c.RevokedAt) && u.CorrectedAt.Equal(c.CorrectedAt)
}

// OpenCorrections verifies the notes of all corrections of a copy; those of a retired key count
// together or not at all. The result has one entry for each, nil if it does not verify.
type OpenCorrections func(all []Correction) []*Undoing

// Lists are the rows of a copy that say what its revocations mean.
type Lists struct {
	Issuers     []Issuer
	Corrections []Correction
}

// Adoption decides what a site may take in: a segment, a seed, or what its daemon finds in the
// database. It is pure, and for one goroutine.
//
// A permanent revocation of a certificate that has not ended stays, with its time and under its
// issuer's key, and the certificate's end does not move back, unless a correction with a valid
// note names exactly that state. A correction takes back one revocation, once, and it stays. A
// certificate that had ended, or was only on hold, is not protected. An end may move forward, a
// reason become more serious.
type Adoption struct {
	Ended      time.Time // from Ended: certificates that ended before it count as ended
	Held, Next Lists
	// AsOf is the earliest as_of of the changes since Held, by the master's clock: a correction
	// that is new here was made CorrectionLead before it, or later.
	AsOf time.Time
	// Open is nil if nothing can be verified: Why says so.
	Open OpenCorrections
	Why  string

	opened bool
	undone map[string][]*Undoing // what Next's corrections take back, by the certificate's key
	spent  map[string][]*Undoing // and what Held's took back
}

// Certificate says why a certificate must not change from was to next; nil means no row.
func (a *Adoption) Certificate(issuer IssuerID, serial Serial, was, next *Status) error {
	if comes(was, next) && a.hasSpent(issuer, serial, next.RevokedAt) {
		return fmt.Errorf("%w: that of %d/%s from %s was taken back, and comes again: enter it with another time", ErrRevocationsLost, issuer, serial, stamp(next.RevokedAt))
	}
	if was == nil || follows(*was, next, a.Ended) || a.corrected(issuer, serial, *was, next) {
		return nil
	}
	err := fmt.Errorf("%w: %d/%s is revoked since %s", ErrRevocationsLost, issuer, serial, stamp(was.RevokedAt))
	if a.Open == nil && a.Why != "" {
		err = fmt.Errorf("%w (no correction can be verified: %s)", err, a.Why)
	}
	return err
}

// Suspect says whether Certificate may refuse a change, in a copy with this many corrections: then
// Certificate needs the lists, which are not always loaded.
func Suspect(was, next *Status, ended time.Time, corrections int64) bool {
	return was != nil && !follows(*was, next, ended) || corrections > 0 && comes(was, next)
}

// comes says whether next is a permanent revocation that was not there.
func comes(was, next *Status) bool {
	return next != nil && next.Permanent() && (was == nil || !was.Permanent() || !was.RevokedAt.Equal(next.RevokedAt))
}

// follows says whether a state may become next without a correction.
func follows(was Status, next *Status, ended time.Time) bool {
	return !was.Permanent() || !was.NotAfter.After(ended) || next != nil && next.Permanent() && holds(was, *next)
}

// holds says whether next is the same revocation, with an equal or later end and an equal or more
// serious reason.
func holds(was, next Status) bool {
	return next.RevokedAt.Equal(was.RevokedAt) && !next.NotAfter.Before(was.NotAfter) && next.Reason.weight() >= was.Reason.weight()
}

// weight orders reasons: a compromise weighs more than the rest, and any reason more than none.
func (r Reason) weight() int {
	switch r {
	case ReasonNone:
		return 0
	case ReasonKeyCompromise, ReasonCACompromise, ReasonAACompromise:
		return 2
	}
	return 1
}

// corrected says whether corrections lead from a state to next, each from the state that it names.
// After a revocation that was taken back any state may follow.
func (a *Adoption) corrected(issuer IssuerID, serial Serial, was Status, next *Status) bool {
	a.open()
	states := []Status{was}
	for i := 0; i < len(states); i++ {
		if i > 0 && follows(states[i], next, a.Ended) {
			return true
		}
		for _, u := range a.undone[certificateKey(issuer, serial)] {
			if !holds(states[i], u.Was) { // a copy that was away has not seen the last end and reason
				continue
			}
			if u.Wrong != WrongNotAfter {
				return true
			}
			state := u.Was
			state.NotAfter = u.NotAfter
			if !slices.Contains(states, state) {
				states = append(states, state)
			}
		}
	}
	return false
}

func (a *Adoption) hasSpent(issuer IssuerID, serial Serial, revokedAt time.Time) bool {
	if !slices.ContainsFunc(a.Held.Corrections, func(c Correction) bool {
		return c.IssuerID == issuer && bytes.Equal(c.Serial, serial) && c.RevokedAt.Equal(revokedAt)
	}) {
		return false
	}
	a.open()
	return takesBack(a.spent[certificateKey(issuer, serial)], revokedAt)
}

func takesBack(list []*Undoing, revokedAt time.Time) bool {
	return slices.ContainsFunc(list, func(u *Undoing) bool { return u.Wrong != WrongNotAfter && u.Was.RevokedAt.Equal(revokedAt) })
}

// Unbelieved returns the corrections of Next that take nothing back, since no note of them
// verifies.
func (a *Adoption) Unbelieved() []Correction {
	a.open()
	var list []Correction
	for _, c := range a.Next.Corrections {
		named := func(u *Undoing) bool { return u.Was.RevokedAt.Equal(c.RevokedAt) && u.CorrectedAt.Equal(c.CorrectedAt) }
		if !slices.ContainsFunc(a.undone[certificateKey(c.IssuerID, c.Serial)], named) {
			list = append(list, c)
		}
	}
	return list
}

// Revocations calls each with all held permanent revocations under an issuer.
type Revocations func(issuer IssuerID, each func(Serial, Status) error) error

// Lists says why the lists must not become Next. If an issuer is missing, or has another key, its
// revocations are lost.
func (a *Adoption) Lists(held Revocations) error {
	if err := a.corrections(); err != nil {
		return err
	}
	for _, i := range a.MovedIssuers() {
		err := held(i.ID, func(serial Serial, was Status) error { return a.Certificate(i.ID, serial, &was, nil) })
		if err != nil {
			return fmt.Errorf("issuer %q is gone, or has another key or number: %w", i.Name, err)
		}
	}
	return nil
}

// MovedIssuers returns the issuers of Held that Next lacks, or has under another key.
func (a *Adoption) MovedIssuers() []Issuer {
	var moved []Issuer
	for _, was := range a.Held.Issuers {
		if !slices.ContainsFunc(a.Next.Issuers, func(i Issuer) bool { return i.ID == was.ID && i.Key == was.Key }) {
			moved = append(moved, was)
		}
	}
	return moved
}

// corrections finds a correction that is missing without another in its place, and one that comes
// too late: its key may have been stolen by then.
func (a *Adoption) corrections() error {
	if len(a.Held.Corrections)+len(a.Next.Corrections) == 0 {
		return nil
	}
	a.open()
	for key, list := range a.spent {
		for _, u := range list {
			if !slices.ContainsFunc(a.undone[key], func(n *Undoing) bool { return n.Was.RevokedAt.Equal(u.Was.RevokedAt) }) {
				return fmt.Errorf("%w: the correction of that of %s from %s is gone, so that it could come again: enter it anew at the master",
					ErrRevocationsLost, u.Serial, stamp(u.Was.RevokedAt))
			}
		}
	}
	first := a.AsOf.Add(-CorrectionLead)
	for key, list := range a.undone {
		for _, u := range list {
			held := func(h *Undoing) bool { return h.Was == u.Was && h.CorrectedAt.Equal(u.CorrectedAt) }
			if !a.AsOf.IsZero() && u.CorrectedAt.Before(first) && !slices.ContainsFunc(a.spent[key], held) {
				return fmt.Errorf("%w: the correction of that of %s was made at %s, and comes first after %s, more than %s later",
					ErrRevocationsLost, u.Serial, stamp(u.CorrectedAt), stamp(a.AsOf), CorrectionLead)
			}
		}
	}
	return nil
}

// open verifies the corrections, once.
func (a *Adoption) open() {
	if a.opened {
		return
	}
	a.opened = true
	a.spent, a.undone = a.verified(a.Held.Corrections), a.verified(a.Next.Corrections)
}

// verified returns the corrections whose notes verify, by certificate.
func (a *Adoption) verified(list []Correction) map[string][]*Undoing {
	if a.Open == nil || len(list) == 0 {
		return nil
	}
	keys := map[IssuerID][32]byte{}
	for _, i := range slices.Concat(a.Next.Issuers, a.Held.Issuers) { // the held issuer counts
		keys[i.ID] = i.Key
	}
	by := map[string][]*Undoing{}
	for i, u := range a.Open(list) {
		c := list[i]
		if key, there := keys[c.IssuerID]; u != nil && there && u.is(c, key) {
			at := certificateKey(c.IssuerID, c.Serial)
			by[at] = append(by[at], u)
		}
	}
	return by
}

func certificateKey(issuer IssuerID, serial Serial) string {
	return string(AppendCertificateKey(nil, issuer, serial))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
