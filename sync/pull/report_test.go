package pull_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"

	"golang.org/x/mod/sumdb/note"
)

// takesForks serves a master that takes the evidence of sites, and knows one.
func (m *master) takesForks(t *testing.T, s *site, name string) (*feedhttp.Client, *publish.ForkReports) {
	t.Helper()
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Master.AddResponder(t.Context(), name, "http://127.0.0.1:1/", nil, act); err != nil {
		t.Fatal(err)
	}
	reports := publish.NewForkReports(open(t, dbtest.As(m.dsn, "ocsp_publisher")).Publisher, root, quiet)
	runs(t, reports.Run)
	access, id := &feedhttp.AccessList{}, identity(t)
	access.Set(map[feedhttp.Pin]string{s.id.Pin: name})
	return listensAs(t, feedhttp.ServerConfig{Store: m.store.DB, Latest: m.latest, Access: access, Forks: reports, Clock: m.store.Clock, Log: quiet}, access, id, s.id), reports
}

// waits for what must come true.
func waits(t *testing.T, what string, is func() bool) {
	t.Helper()
	for tries := 0; !is(); tries++ {
		if tries == 3000 {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Two masters publish, or the key is stolen: a site that finds it hands the evidence to
// the master, which fails until two persons have settled it; the site hears of that. It
// proves nothing to claim one.
func TestForkIsShownToTheMasterAndSettledByTwo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, thief, victim := newMaster(t), newSite(t), newSite(t)
	m.issue(t, 1)
	m.sealed(t)
	client, reports := m.takesForks(t, victim, "site-a")
	for _, s := range []*site{thief, victim} {
		_, stop := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
		s.equals(t, m)
		stop()
	}
	// One more segment of his own, while the master goes on.
	forged(t, m, thief, true, func(*db.Head) {})
	_, stop := victim.pulls(t, m, nil, client)
	m.issue(t, 2)
	m.sealed(t)
	victim.equals(t, m)
	stop()
	before, err := victim.store.Site.FeedCopy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := victim.pulls(t, m, func(c *pull.Config) { c.Recount = time.Hour }, serve(t, thief.store, thief.latest, victim.id, nil), client)
	waits(t, "the evidence at the master", func() bool { return strings.Contains(reports.Trouble(), "site site-a showed") })
	if head, err := victim.store.Head(t.Context()); err != nil || head.Position < before.Head.Position {
		t.Errorf("the fork was followed: %+v, %v (%s)", head, err, p.State().Trouble)
	}

	// Whoever claims one shows nothing, whatever he signs or repeats.
	c, err := m.keys.OpenCheckpoint(m.latest.Newest().Note)
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range []feed.ForkReport{
		{Why: "made up", Ours: []byte("ours"), Theirs: []byte("theirs")},
		{Why: "the same twice", Ours: m.latest.Newest().Note, Theirs: m.latest.Newest().Note},
	} {
		if settled, err := client.Report(t.Context(), claim); err != nil || settled {
			t.Errorf("%s: %t, %v", claim.Why, settled, err)
		}
	}
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	verdicts := func() map[feed.ForkResult]int {
		t.Helper()
		forks, err := feed.MasterForks(t.Context(), m.store.Master, root)
		if err != nil {
			t.Fatal(err)
		}
		got := map[feed.ForkResult]int{}
		for _, f := range forks {
			got[f.Result]++
		}
		return got
	}
	if got := verdicts(); got[feed.ForkProven] == 0 || got[feed.ForkClaimed] != 2 {
		t.Errorf("at the master: %v of epoch %d", got, c.Epoch)
	}

	// One person asks, another agrees.
	as := func(login string) *dbtest.Database {
		t.Helper()
		const password = "a password for tests"
		if err := m.store.CreateLogin(t.Context(), login, db.RoleOperator, password, act); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(m.dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(login, password)
		return open(t, u.String())
	}
	one, two := as("operator_one"), as("operator_two")
	id, _, err := one.Master.RequestForkSettle(t.Context(), nil, act)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Master.Approve(t.Context(), id, act); err == nil {
		t.Error("one person settled it")
	}
	if err := two.Master.Approve(t.Context(), id, act); err != nil {
		t.Fatal(err)
	}
	waits(t, "the master is well", func() bool { return reports.Trouble() == "" })
	if got := verdicts(); len(got) != 0 {
		t.Errorf("open at the master: %v", got)
	}
	waits(t, "the site heard that it is settled", func() bool {
		forks, err := victim.store.Site.Forks(t.Context())
		return err == nil && len(forks) == 0
	})
}

// A key set that bans the key ends its forks, at the site and at the master.
func TestBanSettlesAForkOfItsKey(t *testing.T) {
	t.Parallel()
	m, next := rotating(t)
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	m.sealed(t)
	c, err := m.keys.OpenCheckpoint(m.latest.Newest().Note)
	if err != nil {
		t.Fatal(err)
	}
	other := *c
	other.Segment, other.Position = feed.Hash{7}, c.Position+1
	his, err := other.Sign(m.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Master.AddResponder(t.Context(), "site-a", "http://127.0.0.1:1/", nil, act); err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Publisher.ReportFork(t.Context(), "site-a", "two segments of one number", m.latest.Newest().Note, his); err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	if err := s.sync.Site.KeepFork(t.Context(), "thief", "two segments of one number", m.latest.Newest().Note, his); err != nil {
		t.Fatal(err)
	}
	at := func() (master []feed.CheckedFork, site []db.Fork) {
		t.Helper()
		master, err := feed.MasterForks(t.Context(), m.store.Master, root)
		if err == nil {
			site, err = feed.SiteForks(t.Context(), s.store.Site, root)
		}
		if err != nil {
			t.Fatal(err)
		}
		return master, site
	}
	if master, site := at(); len(master) != 1 || master[0].Result != feed.ForkProven || len(site) != 1 {
		t.Fatalf("before the ban: %+v, %+v", master, site)
	}
	clean := m.publishes(t, m.store, func(k *feed.KeySet) {
		k.Keys, k.Banned = []feed.FeedKey{named(next)}, []string{m.key.Verifier()}
	})
	s.beats(t, m, m.store, clean)
	if master, site := at(); len(master) != 1 || master[0].Result != feed.ForkOver || len(site) != 0 {
		t.Errorf("after the ban: %+v, %+v", master, site)
	}
}

// A master that was restored from an old copy, on a machine that knows nothing of what was
// signed since: the first site that asks shows it. It signs nothing more in that epoch, and
// says so, until a new one begins.
func TestARestoredMasterSignsNothingBehindWhatSitesHave(t *testing.T) {
	if testing.Short() {
		t.Skip("starts several sites")
	}
	t.Parallel()
	m, s := prepare(t), newSite(t)
	stop := m.rotates(t, m.store, m.latest, nil)
	m.issue(t, 1)
	m.sealed(t)
	_, leave := s.pulls(t, m, nil, serve(t, m.store, m.latest, s.id, nil))
	s.equals(t, m)
	restored := backup(t, m.dsn)
	m.issue(t, 2)
	m.sealed(t)
	s.equals(t, m)
	s.standsOn(t, m.latest.Newest().Number)
	stop()
	leave()

	m.dsn, m.store, m.latest = restored, open(t, restored), &feedhttp.Latest{}
	client, reports := m.takesForks(t, s, "site-a")
	sealer, err := publish.NewSealer(publish.SealerConfig{
		Store: m.store.Publisher, Key: m.key, Keys: m.keys, Latest: m.latest, Lost: reports.Lost, Wait: 10 * time.Millisecond, Confirm: 100 * time.Millisecond, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	// What it had signed before it was copied is what the site asks for.
	newest, err := m.store.FeedNote(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m.latest.Publish(newest)
	_, leave = s.pulls(t, m, nil, client)
	waits(t, "the master is shown what it lost", func() bool { return reports.Lost() != "" && reports.Trouble() != "" })
	runs(t, sealer.Run)
	m.issue(t, 3)
	waits(t, "the sealer says so", func() bool {
		return strings.Contains(sealer.Trouble(), "site site-a has what this master signed and lost")
	})
	if after, err := m.store.FeedNote(t.Context()); err != nil || after.Number != newest.Number {
		t.Errorf("it signed segment %d after %d (%v)", after.Number, newest.Number, err)
	}
	leave()
	epoch := m.keys.Epoch + 1
	if _, err := m.store.Master.NewEpoch(t.Context(), epoch, act); err != nil {
		t.Fatal(err)
	}
	m.publishes(t, m.store, func(k *feed.KeySet) { k.Epoch = epoch })
	waits(t, "a new epoch settles it", func() bool { return reports.Lost() == "" && reports.Trouble() == "" })
}
