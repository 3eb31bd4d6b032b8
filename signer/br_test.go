package signer

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"

	"golang.org/x/crypto/ocsp"
	"pgregory.net/rapid"
)

// judgeBR says what section 4.9.10 of the BR finds wrong with an answer that is
// sent at now; written from their text, not from our code.
func judgeBR(answer *ocsp.Response, now time.Time) error {
	const hour, day = 3600, 86400                                               // "a difference of 3,600 seconds shall be equal to one hour"
	interval := int64(answer.NextUpdate.Sub(answer.ThisUpdate)/time.Second) + 1 // "inclusive"
	age, left := int64(now.Sub(answer.ThisUpdate)/time.Second), int64(answer.NextUpdate.Sub(now)/time.Second)
	switch {
	case interval < 8*hour:
		return fmt.Errorf("(1) a validity interval of %d s is less than eight hours", interval)
	case interval > 10*day:
		return fmt.Errorf("(2) a validity interval of %d s is more than ten days", interval)
	case interval < 16*hour && left < interval/2:
		return fmt.Errorf("(3) sent %d s before nextUpdate of an interval of %d s", left, interval)
	case interval > 16*hour && left < 8*hour:
		return fmt.Errorf("(4) sent %d s before nextUpdate", left)
	case interval > 16*hour && age > 4*day:
		return fmt.Errorf("(4) sent %d s after thisUpdate", age)
	case answer.NextUpdate.After(answer.Certificate.NotAfter):
		return fmt.Errorf("nextUpdate %s is after the signer's end %s", answer.NextUpdate, answer.Certificate.NotAfter)
	case answer.Status == ocsp.Revoked && answer.RevocationReason == ocsp.CertificateHold:
		return fmt.Errorf("4.9.13: certificateHold")
	}
	return nil
}

// BR 4.9.10 at the time of sending: whatever the policy says, however old the copy
// and however near the signer's end, from the cache, from a failing token or fresh:
// what is sent obeys, or it is no answer.
func TestBR_4_9_10_EveryAnswerWhenItIsSent(t *testing.T) {
	seconds := func(rt *rapid.T, name string, low, high int64) time.Duration {
		return time.Duration(rapid.Int64Range(low, high).Draw(rt, name)) * time.Second
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		r.Copy.Edit(func() {
			row := r.Copy.IssuerRows[0]
			row.Policy = db.Policy{
				Version: 2, Profile: db.ProfileBR,
				Validity:        seconds(rt, "validity", -1, 2_000_000),
				Backdate:        seconds(rt, "backdate", -1, 10_000),
				MaxStaleness:    seconds(rt, "max_staleness", -1, 2_000_000),
				FreshForUnknown: seconds(rt, "fresh_for_unknown", -1, 2_000_000),
				HTTPMaxAge:      seconds(rt, "http_max_age", -1, 1_000_000),
				Refresh:         seconds(rt, "refresh", -1, 1_000_000),
				NeverIssued:     rapid.SampledFrom([]db.NeverIssued{db.NeverIssuedUnknown, db.NeverIssuedRevoked, "", "other"}).Draw(rt, "never_issued"),
			}
			r.Copy.IssuerRows = []db.Issuer{row}
		})
		_ = r.Refresh(t.Context())
		now := signertest.Noon
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			now = now.Add(seconds(rt, "later", 0, 60_000))
			r.SetTime(now)
			if rapid.IntRange(0, 3).Draw(rt, "heartbeat") == 0 {
				r.Copy.Heartbeat(now.Add(-seconds(rt, "behind", -300, 40_000)))
			}
			r.Keys.Set(func() { r.Keys.Fault = rapid.SampledFrom([]error{nil, nil, errBusy}).Draw(rt, "token") })
			_ = r.Refresh(t.Context())
			for _, serial := range []*big.Int{signertest.GoodSerial, signertest.RevokedSerial, signertest.HoldSerial, signertest.AbsentSerial, big.NewInt(signertest.OwnSerial)} {
				a := r.ask(serial)
				if !a.Class.Signed() {
					continue
				}
				if err := judgeBR(r.judge(a), now); err != nil {
					rt.Fatalf("%s for %x at %s: %v", a.Class, serial, now, err)
				}
				if end := now.Add(a.MaxAge); !end.Before(a.NextUpdate) {
					rt.Fatalf("max-age ends at %s, nextUpdate is %s", end, a.NextUpdate)
				}
			}
		}
	})
}

// An ordinary br site does answer: the rules do not silence it.
func TestBR_4_9_10_AnOrdinarySiteAnswers(t *testing.T) {
	for _, validity := range []time.Duration{8 * time.Hour, 15 * time.Hour, 16 * time.Hour, 72 * time.Hour, 240 * time.Hour} {
		r := newRig(t)
		r.policy(func(p *db.Policy) { p.Profile, p.Validity, p.MaxStaleness = db.ProfileBR, validity, validity })
		p := r.site.Load().served[0].policy
		for _, age := range []time.Duration{0, p.MaxStaleness / 2, p.MaxStaleness} {
			r.SetTime(signertest.Noon.Add(age))
			for serial, want := range map[*big.Int]Class{signertest.GoodSerial: Good, signertest.RevokedSerial: Revoked, signertest.HoldSerial: Unauthorized} {
				if a := r.ask(serial); a.Class != want {
					t.Errorf("validity %s, age %s: %s, want %s", validity, age, a.Class, want)
				}
			}
		}
		if r.SetTime(signertest.Noon.Add(p.MaxStaleness + time.Second)); r.ask(signertest.GoodSerial).Class != Unauthorized {
			t.Errorf("validity %s: good beyond max_staleness", validity)
		}
	}
}

// In its last 8 h a br signer has nothing to say: the site tells, and a younger
// certificate took over before.
func TestBR_4_9_10_TheSignersLastHours(t *testing.T) {
	r := newRig(t)
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileBR })
	end := signertest.Noon.Add(6 * day)
	r.SetTime(end.Add(-8 * time.Hour))
	r.Copy.Heartbeat(r.Time())
	r.refreshed()
	wantClass(t, r.ask(signertest.GoodSerial), Good)
	r.SetTime(end.Add(-8*time.Hour + time.Second))
	r.Copy.Heartbeat(r.Time())
	if err := r.Refresh(t.Context()); err == nil {
		t.Error("a signer is left")
	}
	wantClass(t, r.ask(signertest.GoodSerial), Unauthorized)
	if len(r.Ready(t.Context())) == 0 {
		t.Error("ready")
	}
	young := r.CA.Delegate(t, 0x7003, newKeyFor(r), r.Time().Add(-time.Minute), r.Time().Add(7*day))
	r.AddCert(young)
	r.refreshed()
	if r.signerOf(r.ask(signertest.GoodSerial)) != young.Fingerprint {
		t.Error("the young certificate does not sign")
	}
}
