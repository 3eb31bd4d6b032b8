package pull_test

import (
	"net/url"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"
)

// correct takes permanent revocations back, as two operators do, by the key that the set
// names for that.
func (m *master) correct(tb testing.TB, n int) {
	tb.Helper()
	const password = "a password for tests"
	var persons [2]*dbtest.Database
	for i, name := range []string{"test_anna", "test_bert"} {
		if _, err := m.store.CreateLoginWith(tb.Context(), name, db.RoleOperator, password, tables.LoginOptions{Connections: 50}, act); err != nil { // all tests of the binary share it
			tb.Fatal(err)
		}
		dsn, err := url.Parse(m.dsn)
		if err != nil {
			tb.Fatal(err)
		}
		dsn.User = url.UserPassword(name, password)
		persons[i] = open(tb, dsn.String())
	}
	id, _, err := persons[0].Master.RequestCorrection(tb.Context(), 1, []db.Serial{serial(n)}, act)
	if err == nil {
		second := feedtest.Corrector{Key: m.corrects, Set: m.keys}
		err = second.Approve(tb, persons[1].Master, id, act)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func (s *site) shows(tb testing.TB, n int, revoked bool) {
	tb.Helper()
	if got, err := s.store.Certificate(tb.Context(), 1, serial(n)); err != nil || got.Revoked != revoked {
		tb.Errorf("certificate %d is %+v at the site, %v; want revoked: %v", n, got, err, revoked)
	}
}

// A correction reaches a site by a segment, by a backlog and by a snapshot over
// rows that say revoked, and a peer by the relay. It excuses that revocation only.
func TestCorrectionTravelsByTheFeed(t *testing.T) {
	t.Parallel()
	m, a, b := newMaster(t), newSite(t), newSite(t)
	for n := range 3 {
		m.issue(t, n)
		m.revoke(t, n, db.ReasonKeyCompromise)
	}
	client := serve(t, m.store, m.latest, a.id, nil)
	_, stop := a.pulls(t, m, nil, client)
	b.pulls(t, m, nil, serve(t, a.sync, a.latest, b.id, nil))
	a.equals(t, m)
	b.equals(t, m)
	m.correct(t, 0)
	a.equals(t, m)
	b.equals(t, m)
	a.shows(t, 0, false)
	a.shows(t, 1, true)
	b.shows(t, 0, false)
	stop()
	m.correct(t, 1)
	_, stop = a.pulls(t, m, nil, client)
	a.equals(t, m)
	a.shows(t, 1, false)

	stop()
	m.correct(t, 2)
	position := m.position(t)
	runs(t, publish.NewSnapshotter(publish.SnapshotterConfig{Store: m.store.Publisher, Key: m.key, Keys: m.keys, Poll: 20 * time.Millisecond, Every: time.Millisecond, Log: quiet}).Run)
	for range 6000 { // a snapshot that holds it
		if n, err := m.store.NewestSnapshot(t.Context(), m.keys.Epoch); err == nil && n.Position >= position {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	dbtest.Exec(t, a.dsn, "delete from feed_anchor") // so it is seeded anew
	p, _ := a.pulls(t, m, func(c *pull.Config) { c.Recount = time.Hour }, client)
	a.equals(t, m)
	a.shows(t, 2, false)

	if _, _, err := m.store.Master.Revoke(t.Context(), 1, serial(0), db.ReasonKeyCompromise, time.Now().Add(-time.Hour), act); err != nil {
		t.Fatal(err)
	}
	a.equals(t, m)
	dbtest.Exec(t, m.dsn, "alter table certificate disable trigger guard; update certificate set revoked_at = null, reason = null where revoked_at is not null")
	awaitTrouble(t, p, db.ErrRevocationsLost)
	a.shows(t, 0, true)
}

func (m *master) position(tb testing.TB) int64 {
	tb.Helper()
	head, err := m.store.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return head.Position
}
