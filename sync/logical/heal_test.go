package logical_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/logical"
)

func TestSubscriptionDisabledByHandIsEnabledAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.start(nil)
	dbtest.Exec(t, p.siteDSN, "alter subscription ocspfleet disable")
	p.names(logical.Disabled)
	p.issue("0a")
	p.seenAtSite("0a", "good")
	p.heals()
}

func TestSlotDroppedAtTheMasterIsNamedAndHealed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.start(nil)
	p.dropSlots()
	p.revoke("0a", db.ReasonSuperseded)
	p.names(logical.SlotLost)
	p.seenAtSite("0a", "revoked superseded")
	p.heals()
	if n := p.state().Reseeds; n != 2 {
		t.Errorf("%d seeds, want 2", n)
	}
}

func TestSubscriptionMissingOrSetOtherwiseIsMadeAnew(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.start(nil)
	dbtest.Exec(t, p.siteDSN, "alter subscription ocspfleet set (synchronous_commit = off)")
	p.until("a seed", func() bool { return p.state().Reseeds == 2 })
	p.heals()
	dbtest.Exec(t, p.siteDSN, "select subscription_drop('ocspfleet')")
	p.until("another", func() bool { return p.state().Reseeds == 3 })
	p.heals()
	dbtest.Exec(t, p.siteDSN, "delete from feed_head")
	p.until("a third", func() bool { return p.state().Reseeds == 4 })
	p.issue("0a")
	p.seenAtSite("0a", "good")
	p.heals()
	slots, err := p.up.Slots(t.Context(), p.name)
	if err != nil || len(slots) > 2 { // that of the dropped subscription is nobody's until it is an hour old
		t.Errorf("slots %+v, %v", slots, err)
	}
}

// A page of the copy is damaged, as by a bad disk: the copy is seeded anew, by a recount or
// because the worker fails at it.
func TestADamagedPageIsSeededAnew(t *testing.T) {
	t.Parallel()
	server := dbtest.Cluster(t, impatient)
	p := newPairOn(t, dbtest.New(t, migrations.Master), server)
	for n := range 50 {
		p.issue(fmt.Sprintf("%04x", 0x4000+n))
	}
	p.revoke("4001", db.ReasonKeyCompromise)
	p.start(func(c *logical.Config) { c.RecountInterval = 200 * time.Millisecond })
	dbtest.Damage(t, server, p.siteDSN)
	p.revoke("4002", db.ReasonKeyCompromise)
	// The count and the worker meet the page, whichever comes first.
	p.until("the damage is named", func() bool {
		log := p.log.String()
		return (strings.Contains(log, " to=diverged ") || strings.Contains(log, " to=apply_error ")) && strings.Contains(log, "invalid page in block")
	})
	p.heals()
}

func TestConflictingLocalRowIsNamedAndHealed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a")
	p.start(nil)
	// The worker meets it before a recount can.
	p.stopRun()
	dbtest.Exec(t, p.siteDSN, `insert into certificate (issuer_id, serial, not_after) values (1, '\x0b', '2030-01-01 00:00Z')`)
	p.issue("0b")
	p.revoke("0a", db.ReasonKeyCompromise)
	p.until("the worker fails", func() bool {
		seen, err := p.site.Site.Subscription(t.Context(), db.SubscriptionName)
		return err == nil && seen.Errors > 0
	})
	p.run(func(c *logical.Config) { c.Interval = 20 * time.Millisecond; c.ProbeInterval = 100 * time.Millisecond })
	p.until("fault named", func() bool {
		return strings.Contains(p.log.String(), " to=apply_error ") || strings.Contains(p.log.String(), " to=diverged ")
	})
	p.seenAtSite("0a", "revoked keyCompromise")
	p.heals()
	if !strings.Contains(p.log.String(), "0b") {
		t.Error("the evidence does not name the row")
	}
}

func TestApplyErrorIsNamedAndAFailedSeedKeepsTheOldRows(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.issue("0a", "0b")
	p.start(nil)
	dbtest.Exec(t, p.siteDSN, `alter table certificate add constraint obstacle check (reason is distinct from 1)`)
	p.revoke("0a", db.ReasonKeyCompromise)
	p.names(logical.ApplyError)
	p.until("a seed fails at the same row", func() bool { return strings.Contains(p.log.String(), "seed broken off") })
	if a, b := p.siteSays("0a"), p.siteSays("0b"); a != "good" || b != "good" {
		t.Errorf("after the failed seed: %s, %s", a, b)
	}
	dbtest.Exec(t, p.siteDSN, `alter table certificate drop constraint obstacle`)
	p.seenAtSite("0a", "revoked keyCompromise")
	p.heals()
}
