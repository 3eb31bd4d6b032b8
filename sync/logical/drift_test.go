package logical_test

import (
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
)

// Somebody writes another epoch into the site's head: the next heartbeat ends that, and the
// copy in memory goes on without a restart.
func TestTheHeadsEpochIsTheMastersAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.start(nil)
	x, _ := p.responder()
	p.until("the responder is ready", func() bool { return x.Ready() == nil })
	dbtest.Exec(t, p.siteDSN, "update feed_head set epoch = epoch + 1")
	p.revoke("0a", db.ReasonKeyCompromise)
	p.heals()
	want, err := p.master.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.until("the responder is ready again", func() bool { return x.Ready() == nil && x.Horizon().Epoch == want.Epoch })
}

// Somebody drops the key of the rows, which lets one in twice and none be changed.
func TestARepairedSiteIsSeededAnew(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b")
	p.start(nil)
	dbtest.Exec(t, p.siteDSN, `alter table certificate drop constraint certificate_pkey;
		insert into certificate select issuer_id, serial, not_after + interval '1 day' from certificate`)
	p.revoke("0a", db.ReasonKeyCompromise)
	if done, err := migrations.Repair(t.Context(), p.siteDSN, migrations.Site); err != nil || len(done.Refused) > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	p.seenAtSite("0a", "revoked keyCompromise")
	p.heals()
}
