package signer

import (
	"bytes"
	"math/big"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"

	"golang.org/x/crypto/ocsp"
	"pgregory.net/rapid"
)

// A long life of a site in random steps: rows change, the clock goes on and now
// and then back, the master dies, the copy falls into doubt, the token fails, the
// policy changes, the signer is renewed. After every step every serial is asked,
// and the oracle of the fault table judges each answer:
//
//   - never good for what is revoked or was never issued;
//   - never a signed answer whose nextUpdate is past, or later than its signer's end;
//   - never a thisUpdate later than the copy's horizon, revoked for ever excepted;
//   - never a revocationTime after producedAt;
//   - never a bad signature;
//   - once revoked for ever, never good or unknown again.
func TestNeverWrong(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		o := &oracle{rig: r, rt: rt, forever: make(map[int64]bool), verified: make(map[string]*ocsp.Response)}
		now := signertest.Noon
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			serial := db.Serial{byte(rapid.IntRange(1, 6).Draw(rt, "serial"))}
			switch rapid.IntRange(0, 10).Draw(rt, "step") {
			case 0:
				if _, there := r.Copy.Rows[signertest.RowKey(1, serial)]; !there {
					r.Copy.Change(now, 1, serial, r.Issued())
				}
			case 1, 2:
				if st, there := r.Copy.Rows[signertest.RowKey(1, serial)]; there && !st.Permanent() {
					reason := rapid.SampledFrom([]db.Reason{db.ReasonNone, db.ReasonSuperseded, db.ReasonCertificateHold}).Draw(rt, "reason")
					ahead := time.Duration(rapid.IntRange(0, 300).Draw(rt, "ahead")) * time.Second
					r.Copy.Change(now, 1, serial, r.RevokedRow(now.Add(ahead).Truncate(time.Second), reason))
				}
			case 3:
				if st, there := r.Copy.Rows[signertest.RowKey(1, serial)]; there && st.Revoked && !st.Permanent() {
					r.Copy.Change(now, 1, serial, r.Issued())
				}
			case 4, 5:
				now = now.Add(time.Duration(rapid.IntRange(1, 200_000).Draw(rt, "seconds")) * time.Second)
			case 6:
				now = now.Add(-time.Duration(rapid.IntRange(1, 1000).Draw(rt, "back")) * time.Second)
			case 7:
				r.Copy.Heartbeat(now.Add(time.Duration(rapid.IntRange(-400, 400).Draw(rt, "skew")) * time.Second))
			case 8:
				r.Copy.Edit(func() { r.Copy.At.Doubt = rapid.SampledFrom([]string{"", "diverged"}).Draw(rt, "doubt") })
			case 9:
				r.Keys.Set(func() { r.Keys.Fault = rapid.SampledFrom([]error{nil, errBusy}).Draw(rt, "token") })
			case 10:
				r.Copy.Edit(func() {
					row := r.Copy.IssuerRows[0]
					row.Policy.NeverIssued = rapid.SampledFrom([]db.NeverIssued{db.NeverIssuedUnknown, db.NeverIssuedRevoked, db.NeverIssuedUnauthorized}).Draw(rt, "never issued")
					row.Policy.Profile = rapid.SampledFrom([]db.Profile{db.ProfileRevocable, db.ProfileBR}).Draw(rt, "profile")
					row.Policy.HTTPMaxAge = time.Duration(rapid.IntRange(0, 7200).Draw(rt, "max-age")) * time.Second
					row.Policy.Refresh = time.Duration(rapid.IntRange(0, 7200).Draw(rt, "refresh")) * time.Second
					row.Policy.Version++
					r.Copy.IssuerRows = []db.Issuer{row}
				})
			}
			r.SetTime(now)
			if asOf := r.Copy.At.AsOf; asOf.After(o.best) {
				o.best = asOf
			}
			_ = r.Refresh(t.Context()) // whether there is a signer is part of the life
			for n := int64(1); n <= 6; n++ {
				o.ask(n)
				o.ask(n) // from the cache
			}
		}
	})
}

type oracle struct {
	*rig
	rt       *rapid.T
	forever  map[int64]bool // once revoked for ever
	best     time.Time      // the latest horizon that the copy ever had
	verified map[string]*ocsp.Response
}

func (o *oracle) ask(n int64) {
	a := o.rig.ask(big.NewInt(n))
	st, issued := o.Copy.Rows[signertest.RowKey(1, db.Serial{byte(n)})]
	if !a.Class.Signed() {
		if a.Class == InternalError || a.Class == Malformed {
			o.rt.Fatalf("serial %d: %s", n, a.Class)
		}
		return
	}
	resp := o.verified[string(a.Body)]
	if resp == nil {
		var err error
		if resp, err = ocsp.ParseResponse(a.Body, o.CA.Cert); err != nil {
			o.rt.Fatalf("serial %d: %v", n, err)
		}
		o.verified[string(a.Body)] = resp
	}
	now := o.Time().Truncate(time.Second)
	switch {
	case resp.SerialNumber.Int64() != n:
		o.rt.Fatalf("asked for %d, got %d", n, resp.SerialNumber)
	case resp.Status == ocsp.Good && (!issued || st.Revoked):
		o.rt.Fatalf("serial %d: good, the copy says %+v", n, st)
	case resp.Status != ocsp.Revoked && o.forever[n]:
		o.rt.Fatalf("serial %d: revoked for ever, now %d", n, resp.Status)
	case !resp.NextUpdate.After(now), resp.NextUpdate.After(resp.Certificate.NotAfter), resp.ThisUpdate.After(now):
		o.rt.Fatalf("serial %d: from %s to %s at %s", n, resp.ThisUpdate, resp.NextUpdate, now)
	case !now.Add(a.MaxAge).Before(resp.NextUpdate):
		o.rt.Fatalf("serial %d: max-age %s reaches nextUpdate", n, a.MaxAge)
	case resp.Status == ocsp.Revoked && resp.RevokedAt.After(resp.ProducedAt):
		o.rt.Fatalf("serial %d: revoked at %s, produced at %s", n, resp.RevokedAt, resp.ProducedAt)
	case !st.Permanent() && resp.ThisUpdate.After(o.best):
		o.rt.Fatalf("serial %d: thisUpdate %s, the horizon is %s", n, resp.ThisUpdate, o.best)
	case !resp.ThisUpdate.Equal(a.ThisUpdate), !resp.NextUpdate.Equal(a.NextUpdate):
		o.rt.Fatalf("serial %d: the times for HTTP are not those signed", n)
	case resp.Status == ocsp.Good && a.Class != Good, resp.Status == ocsp.Revoked && a.Class != Revoked:
		o.rt.Fatalf("serial %d: class %s, status %d", n, a.Class, resp.Status)
	}
	if issued && st.Permanent() {
		o.forever[n] = true
	}
}

// The same request gives the same octets while nothing changes, whoever asks
// first: cached and fresh answers mean the same.
func TestCachedMeansTheSame(t *testing.T) {
	cached, fresh := newRig(t), newRig(t, func(c *Config) { c.CacheBytes = -1 })
	for _, serial := range []*big.Int{signertest.GoodSerial, signertest.RevokedSerial, signertest.HoldSerial, signertest.AbsentSerial} {
		one, two := cached.ask(serial), cached.ask(serial)
		if !bytes.Equal(one.Body, two.Body) {
			t.Errorf("serial %x: two signatures", serial)
		}
		a, b := cached.judge(two), fresh.judge(fresh.ask(serial))
		if a.Status != b.Status || !a.ThisUpdate.Equal(b.ThisUpdate) || !a.NextUpdate.Equal(b.NextUpdate) ||
			!a.RevokedAt.Equal(b.RevokedAt) || a.RevocationReason != b.RevocationReason {
			t.Errorf("serial %x: cached %+v, fresh %+v", serial, a, b)
		}
	}
}
