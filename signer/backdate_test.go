package signer

import (
	"math/big"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/signertest"
)

// EU DSS refuses a good whose thisUpdate precedes the certificate's notBefore. A CA of
// one-shot signing certificates has backdate 0 and sets notBefore some seconds back: then
// each site, whatever its own clock says, gives the same thisUpdate for the same row, and
// never one before notBefore.
func TestTheSameRowGivesTheSameThisUpdateAtEachSite(t *testing.T) {
	const fresh = 0x2001
	for name, backdate := range map[string]time.Duration{"by default": 5 * time.Minute, "not backdated": 0} {
		registered := signertest.Noon.Add(17*time.Minute + 300*time.Millisecond)
		notBefore := registered.Add(-time.Minute).Truncate(time.Second)
		var first Answer
		for clock, off := range map[string]time.Duration{"right": 0, "ahead": 4 * time.Minute, "behind": -4 * time.Minute} {
			site := newRig(t)
			site.policy(func(p *db.Policy) { p.Backdate = backdate })
			site.Copy.Change(registered, 1, signertest.Serial(big.NewInt(fresh)), site.Issued())
			site.SetTime(registered.Add(5*time.Minute + off))
			a := site.ask(big.NewInt(fresh))
			wantClass(t, a, Good)
			if first.ThisUpdate.IsZero() {
				first = a
			}
			if !a.ThisUpdate.Equal(first.ThisUpdate) || !a.ThisUpdate.Equal(registered.Truncate(time.Second).Add(-backdate)) {
				t.Errorf("%s, clock %s: thisUpdate %s, another site has %s", name, clock, a.ThisUpdate, first.ThisUpdate)
			}
			if backdate == 0 && a.ThisUpdate.Before(notBefore) {
				t.Errorf("%s, clock %s: thisUpdate %s precedes notBefore %s", name, clock, a.ThisUpdate, notBefore)
			}
		}
	}
}
