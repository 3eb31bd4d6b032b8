package pull_test

import (
	"testing"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feedhttp"
)

// One octet of a page of the copy is flipped, as by a bad disk: it is found by PostgreSQL's
// checksum, and the copy seeded anew.
func TestADamagedPageIsSeededAnew(t *testing.T) {
	t.Parallel()
	m := newMaster(t)
	for n := range 50 {
		m.issue(t, n)
	}
	m.revoke(t, 1, db.ReasonKeyCompromise)
	server := dbtest.Cluster(t, nil)
	dsn := dbtest.Migrated(t, server, "site", migrations.Site)
	s := &site{dsn: dsn, store: open(t, dsn), sync: open(t, dbtest.As(dsn, "ocsp_sync")), latest: &feedhttp.Latest{}, id: identity(t)}
	s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	dbtest.Damage(t, server, dsn)
	m.revoke(t, 2, db.ReasonKeyCompromise)
	s.equals(t, m)
}
