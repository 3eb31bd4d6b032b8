package logical_test

import (
	"net/url"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/replicatest"
	"ocspfleet/sync/logical"
)

// Native replication is one of the ways of sync, and passes what all of them must.
func TestNativeReplicationConforms(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	u, err := url.Parse(p.masterDSN)
	if err != nil {
		t.Fatal(err)
	}
	p.line = replicatest.NewLine(t, u.Host)
	replicatest.Exercise(t, replicatest.Pair{MasterDSN: p.masterDSN, SiteDSN: p.siteDSN, Line: p.line, Source: byReplication{p}})
	p.assertNobodyIsSuperuser()
	for _, password := range []string{replicaPassword, syncPassword, strings.ReplaceAll(replicaPassword, "'", `\'`)} {
		if strings.Contains(readLog(t, p.siteServer)+p.log.String(), password) {
			t.Error("a password stands in a log")
		}
	}
	_, err = dbtest.Connect(t, login(t, p.siteDSN, "test_sync", syncPassword)).Exec(t.Context(),
		"create subscription other connection 'dbname=x' publication x")
	if err == nil {
		t.Error("ocsp_sync may make subscriptions of its own")
	}
}

// byReplication is a site that has its rows by native replication, with an hour between two
// regular counts.
type byReplication struct{ *pair }

func (b byReplication) Start()         { b.run(nil) }
func (b byReplication) Stop()          { b.stopRun() }
func (b byReplication) Check()         { b.sub.Check() }
func (b byReplication) Seeds() int     { return b.log.Count("msg=seeded ") }
func (b byReplication) Diverged() int  { return b.log.Count(" to=diverged ") }
func (b byReplication) String() string { return b.log.String() }

func (b byReplication) Trouble() string {
	if state := b.sub.State(); state.Name != logical.Streaming {
		return string(state.Name) + ": " + state.Detail
	}
	return ""
}

// Reseed has the slot gone while this site's ocspsyncd is stopped.
func (b byReplication) Reseed() {
	b.stopRun()
	b.dropSlots()
	b.run(nil)
}

// Again breaks the stream off before PostgreSQL has told the master how far it is.
func (b byReplication) Again() {
	b.t.Helper()
	dbtest.Exec(b.t, b.masterDSN, "select pg_terminate_backend(active_pid) from pg_replication_slots where active and starts_with(slot_name, '"+db.SlotPrefix(b.name)+"')")
}
