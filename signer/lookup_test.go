package signer

import (
	"context"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// fakeLookup answers everything alike, or nothing.
type fakeLookup struct {
	mu     sync.Mutex
	answer LookupAnswer
	fault  error
	pause  time.Duration
	asked  int
}

func (h *fakeLookup) Ask(ctx context.Context, _ [32]byte, _ db.Serial, _ db.Horizon) (LookupAnswer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.pause > 0 {
		select {
		case <-ctx.Done():
			return LookupAnswer{}, ctx.Err()
		case <-time.After(h.pause):
		}
	}
	return h.answer, h.fault
}

func (h *fakeLookup) says(w LookupAnswer, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer, h.fault, h.asked = w, err, 0
}

func newLookupRig(t *testing.T) (*rig, *fakeLookup) {
	h := &fakeLookup{}
	return newRig(t, func(c *Config) { c.Lookup = h }), h
}

func good() LookupAnswer {
	return LookupAnswer{Issued: true, Status: db.Status{NotAfter: signertest.Noon.AddDate(1, 0, 0), Reason: db.ReasonNone}, AsOf: signertest.Noon, Until: signertest.Noon.Add(5 * time.Minute)}
}

// A just-issued certificate is good before the copy has it, no longer than the answer
// lasts, and no signature of it is kept.
func TestLookupOfAJustIssuedSerial(t *testing.T) {
	r, h := newLookupRig(t)
	h.says(good(), nil)
	for range 2 {
		a := r.ask(signertest.AbsentSerial)
		if a.Class != Good || !a.ThisUpdate.Equal(signertest.Noon.Add(-5*time.Minute)) || a.NextUpdate.After(signertest.Noon.Add(5*time.Minute)) || a.MaxAge > absentMaxAge {
			t.Fatalf("it is %s from %s to %s, max-age %s", a.Class, a.ThisUpdate, a.NextUpdate, a.MaxAge)
		}
	}
	if h.asked != 2 {
		t.Errorf("the master was asked %d times: an answer was kept", h.asked)
	}
	w := good()
	w.Status.Revoked, w.Status.RevokedAt, w.Status.Reason = true, signertest.Noon.Add(-time.Minute), db.ReasonKeyCompromise
	h.says(w, nil)
	if a := r.ask(signertest.AbsentSerial); a.Class != Revoked || a.NextUpdate.After(signertest.Noon.Add(5*time.Minute)) {
		t.Errorf("it is %s until %s", a.Class, a.NextUpdate)
	}
	// An old copy does not matter: the answer has its own age.
	r.SetTime(signertest.Noon.Add(40 * time.Hour))
	w = good()
	w.AsOf, w.Until = w.AsOf.Add(40*time.Hour), w.Until.Add(40*time.Hour)
	h.says(w, nil)
	if a := r.ask(signertest.AbsentSerial); a.Class != Good {
		t.Errorf("with an old copy it is %s", a.Class)
	}
	h.says(LookupAnswer{AsOf: w.AsOf, Until: w.Until}, nil)
	if a := r.ask(signertest.AbsentSerial); a.Class != Unauthorized {
		t.Errorf("absent, with an old copy, it is %s", a.Class)
	}
}

// Whatever the master says, a row of the copy stands, and nobody is asked.
func TestLookupNeverOverridesTheCopy(t *testing.T) {
	r, h := newLookupRig(t)
	h.says(good(), nil)
	for serial, class := range map[*big.Int]Class{signertest.GoodSerial: Good, signertest.RevokedSerial: Revoked, signertest.HoldSerial: Revoked} {
		if a := r.ask(serial); a.Class != class {
			t.Errorf("%x is %s, want %s", serial, a.Class, class)
		}
	}
	// What can have no certificate is not asked for either.
	for _, serial := range []*big.Int{big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 200)} {
		if a := r.ask(serial); a.Class != Unknown {
			t.Errorf("%x is %s", serial, a.Class)
		}
	}
	if h.asked != 0 {
		t.Errorf("the master was asked %d times", h.asked)
	}
}

// Nobody who answers: unauthorized. One who says that it was not issued: as the copy
// says, which is the table.
func TestLookupSilentOrAbsent(t *testing.T) {
	r, h := newLookupRig(t)
	h.says(LookupAnswer{}, errors.New("nobody"))
	if a := r.ask(signertest.AbsentSerial); a.Class != Unauthorized {
		t.Errorf("silent: it is %s", a.Class)
	}
	if log := r.Logs.String(); !strings.Contains(log, "unanswered") || strings.Contains(log, "1004") {
		t.Errorf("the log says %q", log)
	}
	ended := good()
	ended.AsOf, ended.Until = signertest.Noon.Add(-10*time.Minute), signertest.Noon
	future := good()
	future.AsOf = signertest.Noon.Add(db.MaxClockSkew + time.Second)
	for name, w := range map[string]LookupAnswer{"ended": ended, "of the future": future} {
		h.says(w, nil)
		if a := r.ask(signertest.AbsentSerial); a.Class != Unauthorized {
			t.Errorf("%s: it is %s", name, a.Class)
		}
	}
	h.says(LookupAnswer{AsOf: signertest.Noon, Until: signertest.Noon.Add(time.Minute)}, nil)
	if a := r.ask(signertest.AbsentSerial); a.Class != Unknown {
		t.Errorf("absent: it is %s", a.Class)
	}
}

// In doubt, or for an issuer of profile br, nobody is asked: the table stands.
func TestLookupIsNotAsked(t *testing.T) {
	r, h := newLookupRig(t)
	h.says(good(), nil)
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileBR })
	if a := r.ask(signertest.AbsentSerial); a.Class != Unknown || a.NextUpdate.Sub(a.ThisUpdate) < minValidityBR {
		t.Errorf("br: it is %s for %s", a.Class, a.NextUpdate.Sub(a.ThisUpdate))
	}
	r.policy(func(p *db.Policy) { p.Profile = db.ProfileRevocable })
	r.Copy.Edit(func() { r.Copy.At.Doubt = "the rows differ" })
	if a := r.ask(signertest.AbsentSerial); a.Class != TryLater {
		t.Errorf("in doubt: it is %s", a.Class)
	}
	if h.asked != 0 {
		t.Errorf("the master was asked %d times", h.asked)
	}
}

// A request for many serials waits for one second, not for one each.
func TestLookupBoundsARequest(t *testing.T) {
	r, h := newLookupRig(t)
	h.says(LookupAnswer{AsOf: signertest.Noon, Until: signertest.Noon.Add(time.Minute)}, nil)
	h.pause = 600 * time.Millisecond
	request := signertest.Join(t, nil, r.Request(signertest.AbsentSerial), r.Request(big.NewInt(0x1005)), r.Request(big.NewInt(0x1006)))
	if a := r.Answer(t.Context(), request); a.Class != Unauthorized {
		t.Errorf("three questions of 0.6 s each were answered with %s", a.Class)
	}
}
