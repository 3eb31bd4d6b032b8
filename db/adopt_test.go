package db_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
)

var (
	adoptNow  = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	adoptKey  = [32]byte{1}
	adoptEnd  = adoptNow.Add(1000 * time.Hour)
	adoptAt   = adoptNow.Add(-100 * time.Hour)
	adoptMade = adoptNow.Add(-time.Hour)
)

func status(revokedAt time.Time, reason db.Reason, end time.Time) *db.Status {
	return &db.Status{NotAfter: end, Revoked: revokedAt != time.Time{}, RevokedAt: revokedAt, Reason: reason}
}

// undoing is one of the certificate 1/05, changed by how.
func undoing(how func(*db.Undoing)) *db.Undoing {
	u := &db.Undoing{
		Issuer: adoptKey, Serial: db.Serial{5}, Was: *status(adoptAt, db.ReasonSuperseded, adoptEnd), Wrong: db.WrongRevoked, CorrectedAt: adoptMade,
	}
	if how != nil {
		how(u)
	}
	return u
}

// adoption holds the corrections of held, and is offered those of next besides.
func adoption(held, next []*db.Undoing) *db.Adoption {
	issuers := []db.Issuer{{ID: 1, Key: adoptKey, Name: "ca"}}
	words := map[string]*db.Undoing{}
	rows := func(list []*db.Undoing) []db.Correction {
		var corrections []db.Correction
		for _, u := range list {
			c := db.Correction{IssuerID: 1, Serial: u.Serial, RevokedAt: u.Was.RevokedAt, CorrectedAt: u.CorrectedAt}
			words[string(db.AppendCorrection(nil, c))] = u
			corrections = append(corrections, c)
		}
		return corrections
	}
	return &db.Adoption{
		Ended: adoptNow, AsOf: adoptNow,
		Held: db.Lists{Issuers: issuers, Corrections: rows(held)}, Next: db.Lists{Issuers: issuers, Corrections: rows(append(append([]*db.Undoing(nil), held...), next...))},
		Open: func(all []db.Correction) []*db.Undoing {
			opened := make([]*db.Undoing, len(all))
			for i, c := range all {
				opened[i] = words[string(db.AppendCorrection(nil, c))]
			}
			return opened
		},
	}
}

// What may become of a certificate: without a correction, and with one of each kind.
func TestAdoptionOfACertificate(t *testing.T) {
	revoked := status(adoptAt, db.ReasonSuperseded, adoptEnd)
	good := status(time.Time{}, db.ReasonNone, adoptEnd)
	held := status(adoptAt, db.ReasonCertificateHold, adoptEnd)
	ended := status(adoptAt, db.ReasonSuperseded, adoptNow)
	earlier := adoptEnd.Add(-500 * time.Hour)
	end := func(u *db.Undoing) { u.Wrong, u.NotAfter = db.WrongNotAfter, earlier }
	for _, test := range []struct {
		name       string
		was, next  *db.Status
		undone     []*db.Undoing
		spentFirst bool // the copy holds the correction already
		adopted    bool
	}{
		{"good to revoked", good, revoked, nil, false, true},
		{"new and revoked", nil, revoked, nil, false, true},
		{"good to gone", good, nil, nil, false, true},
		{"a hold to good", held, good, nil, false, true},
		{"a hold to revoked", held, revoked, nil, false, true},
		{"revoked stays", revoked, revoked, nil, false, true},
		{"a later end", revoked, status(adoptAt, db.ReasonSuperseded, adoptEnd.Add(time.Hour)), nil, false, true},
		{"a graver reason", revoked, status(adoptAt, db.ReasonKeyCompromise, adoptEnd), nil, false, true},
		{"a lighter reason", status(adoptAt, db.ReasonKeyCompromise, adoptEnd), revoked, nil, false, false},
		{"no reason any more", revoked, status(adoptAt, db.ReasonNone, adoptEnd), nil, false, false},
		{"ended to gone", ended, nil, nil, false, true},
		{"ended to good", ended, good, nil, false, true},
		{"revoked to good", revoked, good, nil, false, false},
		{"revoked to a hold", revoked, held, nil, false, false},
		{"revoked to gone", revoked, nil, nil, false, false},
		{"an earlier end", revoked, status(adoptAt, db.ReasonSuperseded, earlier), nil, false, false},
		{"an end in the past", revoked, status(adoptAt, db.ReasonSuperseded, adoptNow.Add(-time.Hour)), nil, false, false},
		{"another time", revoked, status(adoptAt.Add(time.Second), db.ReasonSuperseded, adoptEnd), nil, false, false},
		{"an earlier time", revoked, status(adoptAt.Add(-time.Second), db.ReasonSuperseded, adoptEnd), nil, false, false},

		{"corrected to good", revoked, good, []*db.Undoing{undoing(nil)}, false, true},
		{"corrected to a hold", revoked, held, []*db.Undoing{undoing(nil)}, false, true},
		{"corrected, then revoked at another time", revoked, status(adoptAt.Add(time.Hour), db.ReasonKeyCompromise, adoptEnd), []*db.Undoing{undoing(nil)}, false, true},
		{"never issued", revoked, nil, []*db.Undoing{undoing(func(u *db.Undoing) { u.Wrong = db.WrongIssued })}, false, true},
		{"the right end", revoked, status(adoptAt, db.ReasonSuperseded, earlier), []*db.Undoing{undoing(end)}, false, true},
		{"the right end, then a graver reason", revoked, status(adoptAt, db.ReasonKeyCompromise, earlier), []*db.Undoing{undoing(end)}, false, true},
		{"of the end, to good", revoked, good, []*db.Undoing{undoing(end)}, false, false},
		{"of the end, to an earlier one still", revoked, status(adoptAt, db.ReasonSuperseded, earlier.Add(-time.Hour)), []*db.Undoing{undoing(end)}, false, false},
		{"of the end, which has come: gone", revoked, nil, []*db.Undoing{undoing(func(u *db.Undoing) { end(u); u.NotAfter = adoptNow.Add(-time.Hour) })}, false, true},
		{"of the end, then of the revocation", revoked, good, []*db.Undoing{undoing(end), undoing(func(u *db.Undoing) { u.Was.NotAfter, u.CorrectedAt = earlier, adoptMade.Add(time.Second) })}, false, true},
		{"of ends that lead back", revoked, good, []*db.Undoing{undoing(end), undoing(func(u *db.Undoing) {
			u.Wrong, u.Was.NotAfter, u.NotAfter, u.CorrectedAt = db.WrongNotAfter, earlier, adoptEnd, adoptMade.Add(time.Second)
		})}, false, false},
		{"a copy that was away when the end moved on", status(adoptAt, db.ReasonNone, earlier), good, []*db.Undoing{undoing(nil)}, false, true},
		{"of another revocation", revoked, good, []*db.Undoing{undoing(func(u *db.Undoing) { u.Was.RevokedAt = adoptAt.Add(time.Second) })}, false, false},
		{"of another serial", revoked, good, []*db.Undoing{undoing(func(u *db.Undoing) { u.Serial = db.Serial{6} })}, false, false},
		{"of another issuer", revoked, good, []*db.Undoing{undoing(func(u *db.Undoing) { u.Issuer = [32]byte{2} })}, false, false},
		{"of another end", revoked, good, []*db.Undoing{undoing(func(u *db.Undoing) { u.Was.NotAfter = earlier })}, false, false},
		{"of a lighter reason", status(adoptAt, db.ReasonKeyCompromise, adoptEnd), good, []*db.Undoing{undoing(nil)}, false, false},

		{"the same again", good, revoked, []*db.Undoing{undoing(nil)}, true, false},
		{"the same again, over a later one", status(adoptAt.Add(time.Hour), db.ReasonSuperseded, adoptEnd), revoked, []*db.Undoing{undoing(nil)}, true, false},
		{"the same again, of what was never issued", nil, revoked, []*db.Undoing{undoing(func(u *db.Undoing) { u.Wrong = db.WrongIssued })}, true, false},
		{"again, a second later", good, status(adoptAt.Add(time.Second), db.ReasonSuperseded, adoptEnd), []*db.Undoing{undoing(nil)}, true, true},
		{"the correction first, the change after it", revoked, good, []*db.Undoing{undoing(nil)}, true, true},
		{"a copy that was away: both at once", good, revoked, []*db.Undoing{undoing(nil)}, false, true},
		{"the old correction for a later revocation", status(adoptAt.Add(time.Hour), db.ReasonSuperseded, adoptEnd), good, []*db.Undoing{undoing(nil)}, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := adoption(nil, test.undone)
			if test.spentFirst {
				a = adoption(test.undone, nil)
			}
			err := a.Certificate(1, db.Serial{5}, test.was, test.next)
			if (err == nil) != test.adopted || err != nil && !errors.Is(err, db.ErrRevocationsLost) {
				t.Errorf("got %v", err)
			}
			if err != nil && !db.Suspect(test.was, test.next, adoptNow, int64(len(a.Held.Corrections))) {
				t.Error("it is refused, and not suspect")
			}
			if test.adopted && len(test.undone) == 0 { // nothing to open: the same without
				a.Open = nil
				if err := a.Certificate(1, db.Serial{5}, test.was, test.next); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestAdoptionWithoutAKeySetSaysWhy(t *testing.T) {
	a := adoption(nil, []*db.Undoing{undoing(nil)})
	a.Open, a.Why = nil, "set feed.root"
	err := a.Certificate(1, db.Serial{5}, status(adoptAt, db.ReasonSuperseded, adoptEnd), status(time.Time{}, db.ReasonNone, adoptEnd))
	if !errors.Is(err, db.ErrRevocationsLost) || !strings.Contains(err.Error(), "set feed.root") {
		t.Error(err)
	}
	if n := len(a.Unbelieved()); n != 1 {
		t.Errorf("%d corrections are not believed, want 1", n)
	}
}

func TestAdoptionOfLists(t *testing.T) {
	again := func(u *db.Undoing) { u.CorrectedAt = adoptMade.Add(time.Minute) }
	late := func(u *db.Undoing) { u.CorrectedAt = adoptNow.Add(-db.CorrectionLead - time.Second) }
	other := [32]byte{9}
	revoked := *status(adoptAt, db.ReasonSuperseded, adoptEnd)
	for _, test := range []struct {
		name    string
		change  func(*db.Adoption)
		held    []*db.Undoing
		next    []*db.Undoing
		hangs   db.Status
		adopted bool
	}{
		{"nothing", nil, nil, nil, revoked, true},
		{"a new correction", nil, nil, []*db.Undoing{undoing(nil)}, revoked, true},
		{"an old one stays", nil, []*db.Undoing{undoing(late)}, nil, revoked, true},
		{"one that comes late", nil, nil, []*db.Undoing{undoing(late)}, revoked, false},
		{"one that comes late beside others", nil, []*db.Undoing{undoing(nil)}, []*db.Undoing{undoing(late)}, revoked, false},
		{"gone", func(a *db.Adoption) { a.Next.Corrections = nil }, []*db.Undoing{undoing(nil)}, nil, revoked, false},
		{"signed anew, the old one gone", func(a *db.Adoption) { a.Next.Corrections = a.Next.Corrections[1:] }, []*db.Undoing{undoing(nil)}, []*db.Undoing{undoing(again)}, revoked, true},
		{"gone, and never believed", func(a *db.Adoption) { a.Next.Corrections, a.Open = nil, nil }, []*db.Undoing{undoing(nil)}, nil, revoked, true},
		{"another name", func(a *db.Adoption) { a.Next.Issuers = []db.Issuer{{ID: 1, Key: adoptKey, Name: "other"}} }, nil, nil, revoked, true},
		{"another key", func(a *db.Adoption) { a.Next.Issuers = []db.Issuer{{ID: 1, Key: other}} }, nil, nil, revoked, false},
		{"another number", func(a *db.Adoption) { a.Next.Issuers = []db.Issuer{{ID: 2, Key: adoptKey}} }, nil, nil, revoked, false},
		{"no issuer", func(a *db.Adoption) { a.Next.Issuers = nil }, nil, nil, revoked, false},
		{"no issuer, all has ended", func(a *db.Adoption) { a.Next.Issuers = nil }, nil, nil, *status(adoptAt, db.ReasonSuperseded, adoptNow), true},
		{"no issuer, all was corrected", func(a *db.Adoption) { a.Next.Issuers = nil }, nil, []*db.Undoing{undoing(nil)}, revoked, true},
		{"a correction under another key", func(a *db.Adoption) { a.Next.Issuers = []db.Issuer{{ID: 1, Key: other}} }, nil, []*db.Undoing{undoing(func(u *db.Undoing) { u.Issuer = other })}, revoked, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := adoption(test.held, test.next)
			if test.change != nil {
				issuers := a.Next.Issuers
				a.Next.Issuers = append([]db.Issuer(nil), issuers...)
				test.change(a)
			}
			err := a.Lists(func(issuer db.IssuerID, each func(db.Serial, db.Status) error) error {
				if issuer != 1 {
					return fmt.Errorf("asked for issuer %d", issuer)
				}
				return each(db.Serial{5}, test.hangs)
			})
			if (err == nil) != test.adopted || err != nil && !errors.Is(err, db.ErrRevocationsLost) {
				t.Errorf("got %v", err)
			}
		})
	}
}
