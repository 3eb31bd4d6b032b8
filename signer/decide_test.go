package signer

import (
	"fmt"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"

	"github.com/google/go-cmp/cmp"
)

func changed(p db.Policy, f func(*db.Policy)) policy {
	f(&p)
	return capped(p)
}

// The decision table, cell by cell: what the copy says, against its age.
func TestDecisionTable(t *testing.T) {
	const (
		fresh    = 10 * time.Second
		unfresh  = 16 * time.Minute // beyond fresh_for_unknown
		nearlate = 36 * time.Hour   // max_staleness itself
		late     = 36*time.Hour + time.Second
		overlate = 80 * time.Hour // beyond validity
	)
	usual := capped(signertest.Policy())
	br := changed(signertest.Policy(), func(p *db.Policy) { p.Profile = db.ProfileBR })
	refusing := changed(signertest.Policy(), func(p *db.Policy) { p.NeverIssued = db.NeverIssuedUnauthorized })
	revoking := changed(signertest.Policy(), func(p *db.Policy) { p.NeverIssued = db.NeverIssuedRevoked })
	revokingBR := changed(signertest.Policy(), func(p *db.Policy) { p.NeverIssued, p.Profile = db.NeverIssuedRevoked, db.ProfileBR })

	good := copyStatus{issued: true, status: db.Status{Reason: db.ReasonNone}}
	forever := copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonKeyCompromise}}
	bare := copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonNone}}
	hold := copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonCertificateHold}}
	absent := copyStatus{}
	end := signertest.Noon.Add(6 * 24 * time.Hour)

	for _, c := range []struct {
		name   string
		policy policy
		copy   copyStatus
		age    time.Duration
		doubt  string
		end    time.Time
		want   Class
		// this and next are offsets from now; checked for signed classes.
		this, next time.Duration
	}{
		{"no signer, good", usual, good, fresh, "", time.Time{}, Unauthorized, 0, 0},
		{"no signer, revoked", usual, forever, fresh, "", time.Time{}, Unauthorized, 0, 0},
		{"no signer, old", usual, forever, late, "", time.Time{}, Unauthorized, 0, 0},
		{"signer ends now", usual, forever, fresh, "", signertest.Noon, Unauthorized, 0, 0},

		{"revoked for ever, fresh", usual, forever, fresh, "", end, Revoked, -fresh - 5*time.Minute, 72*time.Hour - 5*time.Minute - fresh},
		{"revoked for ever, at the limit", usual, forever, nearlate, "", end, Revoked, -nearlate - 5*time.Minute, 72*time.Hour - 5*time.Minute - nearlate},
		{"revoked for ever, old", usual, forever, late, "", end, Revoked, -5 * time.Minute, 72*time.Hour - 5*time.Minute},
		{"revoked for ever, very old", usual, forever, overlate, "", end, Revoked, -5 * time.Minute, 72*time.Hour - 5*time.Minute},
		{"revoked for ever, doubt", usual, forever, fresh, "diverged", end, Revoked, -fresh - 5*time.Minute, 72*time.Hour - 5*time.Minute - fresh},
		{"revoked without reason, old", usual, bare, late, "", end, Revoked, -5 * time.Minute, 72*time.Hour - 5*time.Minute},
		{"revoked for ever, br", br, forever, late, "", end, Revoked, -5 * time.Minute, 72*time.Hour - 5*time.Minute},

		{"hold, fresh", usual, hold, fresh, "", end, Revoked, -fresh - 5*time.Minute, 72*time.Hour - 5*time.Minute - fresh},
		{"hold, old", usual, hold, late, "", end, Revoked, -late - 5*time.Minute, 72*time.Hour - 5*time.Minute - late},
		{"hold, to its last second", usual, hold, 72*time.Hour - 5*time.Minute - time.Second, "", end, Revoked, -72*time.Hour + time.Second, time.Second},
		{"hold, nextUpdate past", usual, hold, 72*time.Hour - 5*time.Minute, "", end, Unauthorized, 0, 0},
		{"hold, doubt", usual, hold, fresh, "diverged", end, Revoked, -fresh - 5*time.Minute, 72*time.Hour - 5*time.Minute - fresh},
		{"hold, br", br, hold, fresh, "", end, Unauthorized, 0, 0},

		{"good, fresh", usual, good, fresh, "", end, Good, -fresh - 5*time.Minute, 72*time.Hour - 5*time.Minute - fresh},
		{"good, at the limit", usual, good, nearlate, "", end, Good, -nearlate - 5*time.Minute, 72*time.Hour - 5*time.Minute - nearlate},
		{"good, old", usual, good, late, "", end, Unauthorized, 0, 0},
		{"good, doubt", usual, good, fresh, "diverged", end, TryLater, 0, 0},
		{"good, signer ends first", usual, good, fresh, "", signertest.Noon.Add(time.Hour), Good, -fresh - 5*time.Minute, time.Hour},

		{"absent unknown, fresh", usual, absent, fresh, "", end, Unknown, -fresh - 5*time.Minute, 15 * time.Minute},
		{"absent unknown, at the limit", usual, absent, 15 * time.Minute, "", end, Unknown, -20 * time.Minute, 15 * time.Minute},
		{"absent unknown, unfresh", usual, absent, unfresh, "", end, Unauthorized, 0, 0},
		{"absent unknown, old", usual, absent, late, "", end, Unauthorized, 0, 0},
		{"absent unknown, doubt", usual, absent, fresh, "diverged", end, TryLater, 0, 0},
		{"absent unknown, br", br, absent, fresh, "", end, Unknown, -fresh - 5*time.Minute, 8 * time.Hour},
		{"absent unauthorized, fresh", refusing, absent, fresh, "", end, Unauthorized, 0, 0},
		{"absent unauthorized, old", refusing, absent, late, "", end, Unauthorized, 0, 0},
		{"absent revoked, fresh", revoking, absent, fresh, "", end, Revoked, -fresh - 5*time.Minute, 15 * time.Minute},
		{"absent revoked, unfresh", revoking, absent, unfresh, "", end, Unauthorized, 0, 0},
		{"absent revoked, old", revoking, absent, late, "", end, Unauthorized, 0, 0},
		{"absent revoked, doubt", revoking, absent, fresh, "diverged", end, TryLater, 0, 0},
		{"absent revoked, br", revokingBR, absent, fresh, "", end, Unauthorized, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.copy.horizon = db.Horizon{AsOf: signertest.Noon.Add(-c.age), Received: signertest.Noon.Add(-c.age), Doubt: c.doubt}
			d := decide(c.policy, c.copy, c.end, signertest.Noon)
			if d.class != c.want {
				t.Fatalf("class %s, want %s", d.class, c.want)
			}
			if !d.class.Signed() {
				return
			}
			if diff := cmp.Diff([]time.Time{signertest.Noon.Add(c.this), signertest.Noon.Add(c.next)}, []time.Time{d.thisUpdate, d.nextUpdate}); diff != "" {
				t.Errorf("thisUpdate, nextUpdate (-want +got):\n%s", diff)
			}
			if !signertest.Noon.Add(d.maxAge).Before(d.nextUpdate) {
				t.Errorf("max-age %s reaches nextUpdate", d.maxAge)
			}
			if !c.copy.issued && d.maxAge > time.Minute {
				t.Errorf("max-age %s for a serial never issued", d.maxAge)
			}
			if d.extended != (c.want == Revoked && !c.copy.issued) {
				t.Errorf("extended-revoke is %v", d.extended)
			}
		})
	}
}

// RFC 6960 section 2.2: what a never issued serial is revoked with.
func TestRFC6960_2_2_ExtendedRevoke(t *testing.T) {
	p := changed(signertest.Policy(), func(p *db.Policy) { p.NeverIssued = db.NeverIssuedRevoked })
	d := decide(p, copyStatus{horizon: db.Horizon{AsOf: signertest.Noon, Received: signertest.Noon}}, signertest.Noon.AddDate(0, 0, 6), signertest.Noon)
	if !d.extended || d.reason != db.ReasonCertificateHold || d.revokedAt.Unix() != 0 {
		t.Errorf("got %+v", d)
	}
}

// Skew stops good and unknown, never revoked; ageing is no skew.
func TestMasterClockAhead(t *testing.T) {
	p, end := capped(signertest.Policy()), signertest.Noon.AddDate(0, 0, 6)
	for _, ahead := range []time.Duration{5 * time.Minute, 5*time.Minute + time.Second, 24 * time.Hour} {
		h := db.Horizon{AsOf: signertest.Noon.Add(ahead), Received: signertest.Noon}
		over := ahead > 5*time.Minute
		for name, f := range map[string]copyStatus{"good": {issued: true}, "absent": {}} {
			d := decide(p, copyStatus{issued: f.issued, horizon: h}, end, signertest.Noon)
			if (d.class == TryLater) != over {
				t.Errorf("%s with the master %s ahead: %s", name, ahead, d.class)
			}
			if d.class.Signed() && d.thisUpdate.After(signertest.Noon.Add(-p.Backdate)) {
				t.Errorf("%s with the master %s ahead: thisUpdate %s claims more than our own clock", name, ahead, d.thisUpdate)
			}
		}
		for _, reason := range []db.Reason{db.ReasonNone, db.ReasonCertificateHold} {
			d := decide(p, copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: reason}, horizon: h}, end, signertest.Noon)
			if d.class != Revoked || d.thisUpdate.After(signertest.Noon) {
				t.Errorf("revoked with the master %s ahead: %+v", ahead, d)
			}
		}
	}
}

// RFC 6960 section 2.4: revocationTime is not later than producedAt, though the
// master's clock may be ahead when it writes the row.
func TestRevocationTimeNotAheadOfProducedAt(t *testing.T) {
	h := db.Horizon{AsOf: signertest.Noon, Received: signertest.Noon}
	f := copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.Noon.Add(4 * time.Minute), Reason: db.ReasonNone}, horizon: h}
	if d := decide(capped(signertest.Policy()), f, signertest.Noon.AddDate(0, 0, 6), signertest.Noon); d.class != Revoked || !d.revokedAt.Equal(signertest.Noon) {
		t.Errorf("got %+v", d)
	}
}

// The master is dead for 30 hours, then longer: good goes on honestly until
// max_staleness, unknown ends after 15 minutes, revoked never ends.
func TestMasterDeadFor30Hours(t *testing.T) {
	p, end := capped(signertest.Policy()), signertest.Noon.AddDate(0, 0, 7)
	h := db.Horizon{AsOf: signertest.Noon, Received: signertest.Noon}
	for minutes := range 40 * 60 {
		now := signertest.Noon.Add(time.Duration(minutes) * time.Minute)
		age := now.Sub(signertest.Noon)
		good := decide(p, copyStatus{issued: true, horizon: h}, end, now)
		if (good.class == Good) != (age <= 36*time.Hour) {
			t.Fatalf("good after %s: %s", age, good.class)
		}
		if good.class == Good && !good.thisUpdate.Equal(signertest.Noon.Add(-5*time.Minute)) {
			t.Fatalf("good after %s: thisUpdate %s moved without news", age, good.thisUpdate)
		}
		unknown := decide(p, copyStatus{horizon: h}, end, now)
		if (unknown.class == Unknown) != (age <= 15*time.Minute) {
			t.Fatalf("unknown after %s: %s", age, unknown.class)
		}
		gone := decide(p, copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonNone}, horizon: h}, end, now)
		want := signertest.Noon.Add(-5 * time.Minute)
		if age > 36*time.Hour { // what cannot change is known now, too
			want = now.Add(-5 * time.Minute)
		}
		if gone.class != Revoked || !gone.thisUpdate.Equal(want) {
			t.Fatalf("revoked after %s: %+v", age, gone)
		}
	}
}

// What was revoked for ever is revoked in each minute of 30 days without the master,
// whatever the policy: at no age is there a gap between the two ways to date it.
func TestRevokedForEverNeverEnds(t *testing.T) {
	h := db.Horizon{AsOf: signertest.Noon, Received: signertest.Noon}
	gone := copyStatus{issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonNone}, horizon: h}
	for name, p := range map[string]policy{
		"usual":                        capped(signertest.Policy()),
		"br":                           changed(signertest.Policy(), func(p *db.Policy) { p.Profile = db.ProfileBR }),
		"br, shortest":                 changed(signertest.Policy(), func(p *db.Policy) { p.Profile, p.Validity = db.ProfileBR, 8*time.Hour }),
		"stale as long as valid":       changed(signertest.Policy(), func(p *db.Policy) { p.MaxStaleness = p.Validity }),
		"short, backdated by the half": changed(signertest.Policy(), func(p *db.Policy) { p.Validity, p.MaxStaleness, p.Backdate = 2*time.Hour, 2*time.Hour, time.Hour }),
		"not backdated":                changed(signertest.Policy(), func(p *db.Policy) { p.Backdate = 0 }),
	} {
		for minutes := range 30 * 24 * 60 {
			now := signertest.Noon.Add(time.Duration(minutes) * time.Minute)
			if d := decide(p, gone, now.AddDate(0, 0, 6), now); d.class != Revoked || !d.nextUpdate.After(now) {
				t.Fatalf("%s, after %s: %+v", name, now.Sub(signertest.Noon), d)
			}
		}
	}
}

// This machine's clock is an hour ahead: no answer claims to know a time that the
// master did not confirm.
func TestClockAheadClaimsNothingOfTheFuture(t *testing.T) {
	p := capped(signertest.Policy())
	now, horizon := signertest.Noon.Add(time.Hour), db.Horizon{AsOf: signertest.Noon, Received: signertest.Noon}
	for name, f := range map[string]copyStatus{
		"good":             {issued: true},
		"on hold":          {issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonCertificateHold}},
		"revoked for ever": {issued: true, status: db.Status{Revoked: true, RevokedAt: signertest.RevokedAt, Reason: db.ReasonKeyCompromise}},
	} {
		f.horizon = horizon
		d := decide(p, f, signertest.Noon.AddDate(0, 0, 6), now)
		if !d.class.Signed() || d.thisUpdate.After(signertest.Noon) {
			t.Errorf("%s: %s with thisUpdate %s", name, d.class, d.thisUpdate)
		}
	}
}

// Policy is data: what it may ask for is capped by constants.
func TestPolicyIsCapped(t *testing.T) {
	wild := db.Policy{
		Validity: 1000 * time.Hour, Backdate: 9 * time.Hour, MaxStaleness: 9999 * time.Hour,
		FreshForUnknown: 9999 * time.Hour, HTTPMaxAge: 9999 * time.Hour,
	}
	p := capped(wild)
	want := db.Policy{
		Validity: 240 * time.Hour, Backdate: time.Hour, MaxStaleness: 240 * time.Hour,
		FreshForUnknown: 240 * time.Hour, HTTPMaxAge: 120 * time.Hour,
	}
	if diff := cmp.Diff(want, p.Policy); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	zero := capped(db.Policy{})
	if zero.Validity != 72*time.Hour || zero.MaxStaleness != 36*time.Hour || zero.FreshForUnknown != 0 {
		t.Errorf("the zero policy reads %+v", zero.Policy)
	}
	if d := decide(zero, copyStatus{horizon: db.Horizon{AsOf: signertest.Noon, Received: signertest.Noon}}, signertest.Noon.AddDate(0, 0, 6), signertest.Noon); d.class != Unauthorized {
		t.Errorf("the zero policy says %s for a serial never issued", d.class)
	}
}

func TestClassNames(t *testing.T) {
	got := ""
	for class := range classes + 1 {
		got += fmt.Sprintln(class, class.Signed())
	}
	want := "internal_error false\ngood true\nrevoked true\nunknown true\nmalformed false\nunauthorized false\ntry_later false\ninternal_error false\n"
	if got != want {
		t.Errorf("got\n%s", got)
	}
}
