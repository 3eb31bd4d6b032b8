package recovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/recovery"

	"golang.org/x/mod/sumdb/note"
)

var (
	act  = db.Act{User: "tester", Why: "test"}
	ends = time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
)

// master is a feed's, sealed until the test stops it.
type master struct {
	dsn   string
	store *dbtest.Database
	root  *feed.Key
	key   *feed.Key
	set   *feed.KeySet
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, dsn string) *dbtest.Database {
	tb.Helper()
	return dbtest.Open(tb, dsn)
}

func newMaster(tb testing.TB) *master {
	tb.Helper()
	dsn := dbtest.New(tb, migrations.Master)
	m := &master{dsn: dsn, store: open(tb, dsn), root: feedtest.Key(tb, feedtest.Origin), key: feedtest.Key(tb, feedtest.Origin)}
	must(tb, m.store.Master.InitHead(tb.Context(), time.Now()))
	m.addIssuer(tb, m.store, 1)
	head, err := m.store.Head(tb.Context())
	must(tb, err)
	m.set = &feed.KeySet{Origin: feedtest.Origin, Number: 1, Epoch: head.Epoch, Keys: []feed.FeedKey{feedtest.Named(m.key)}}
	m.publish(tb, m.store, m.set, m.root)
	return m
}

func (m *master) addIssuer(tb testing.TB, store *dbtest.Database, n byte) {
	tb.Helper()
	_, err := store.Master.AddIssuer(tb.Context(), db.Issuer{
		Key: [32]byte{n}, Name: fmt.Sprintf("issuer-%d", n), Certificate: []byte{0x30, 0x00},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	}, act)
	must(tb, err)
}

func (m *master) publish(tb testing.TB, store *dbtest.Database, set *feed.KeySet, by *feed.Key) {
	tb.Helper()
	signed, err := set.Sign(by)
	must(tb, err)
	must(tb, store.KeepFeedKeys(tb.Context(), set.Number, signed))
}

func (m *master) verifier(tb testing.TB) note.Verifier {
	tb.Helper()
	v, err := note.NewVerifier(m.root.Verifier())
	must(tb, err)
	return v
}

// seals runs the sealer, and with snapshots the snapshotter, until stop.
func (m *master) seals(tb testing.TB, store *dbtest.Database, snapshots bool) (stop func()) {
	tb.Helper()
	quiet := slog.New(slog.DiscardHandler)
	sealer, err := publish.NewSealer(publish.SealerConfig{Store: store.Publisher, Key: m.key, Keys: m.set, Latest: &feedhttp.Latest{}, Wait: 10 * time.Millisecond, Log: quiet})
	must(tb, err)
	runs := []func(context.Context) error{sealer.Run}
	if snapshots {
		runs = append(runs, publish.NewSnapshotter(publish.SnapshotterConfig{Store: store.Publisher, Key: m.key, Keys: m.set, Poll: 10 * time.Millisecond, Log: quiet}).Run)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range runs {
		running.Go(func() {
			if err := run(ctx); err != nil {
				tb.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	tb.Cleanup(stop)
	return stop
}

// sealed waits until the feed is where the head is.
func sealed(tb testing.TB, store *dbtest.Database, snapshot bool) {
	tb.Helper()
	head, err := store.Head(tb.Context())
	must(tb, err)
	for range 6000 {
		n, err := store.FeedNote(tb.Context())
		if _, wrong := store.NewestSnapshot(tb.Context(), head.Epoch); snapshot && wrong != nil {
			err = wrong
		}
		if err == nil && n.Position >= head.Position {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Fatalf("position %d was never sealed", head.Position)
}

// backup copies a database as it is now.
func backup(tb testing.TB, dsn string) *dbtest.Database {
	tb.Helper()
	u, err := url.Parse(dsn)
	must(tb, err)
	server, name := dbtest.Server(tb), u.Path[1:]
	for _, sql := range []string{
		"alter database %s allow_connections false",
		"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '%s'",
		"create database %[1]s_restored template %[1]s",
		"alter database %s allow_connections true",
	} {
		dbtest.Exec(tb, server.DSN("postgres"), fmt.Sprintf(sql, name))
	}
	return open(tb, server.DSN(name+"_restored"))
}

func issue(tb testing.TB, store *dbtest.Database, issuer db.IssuerID, serials ...byte) {
	tb.Helper()
	for _, s := range serials {
		_, err := store.Master.Issue(tb.Context(), issuer, db.Serial{s}, ends, act)
		must(tb, err)
	}
}

func revoke(tb testing.TB, store *dbtest.Database, s byte, reason db.Reason, at time.Time) {
	tb.Helper()
	_, _, err := store.Master.Revoke(tb.Context(), 1, db.Serial{s}, reason, at, act)
	must(tb, err)
}

// less is a source that lacks, or changes, something.
type less struct {
	recovery.Source
	snapshot func() ([]byte, error)
	segment  func(number int64, g feed.Sealed) (feed.Sealed, error)
}

func (l less) Snapshot(ctx context.Context, epoch int64) ([]byte, error) {
	if l.snapshot != nil {
		return l.snapshot()
	}
	return l.Source.Snapshot(ctx, epoch)
}

func (l less) Segment(ctx context.Context, epoch, number int64) (feed.Sealed, error) {
	g, err := l.Source.Segment(ctx, epoch, number)
	if err == nil && l.segment != nil {
		return l.segment(number, g)
	}
	return g, err
}

// lost makes a master, and another as it was before the last changes.
func lost(tb testing.TB) (m *master, restored *dbtest.Database) {
	tb.Helper()
	m = newMaster(tb)
	stop := m.seals(tb, m.store, true)
	issue(tb, m.store, 1, 1, 2, 3, 4)
	_, _, err := m.store.Master.Hold(tb.Context(), 1, db.Serial{4}, act)
	must(tb, err)
	sealed(tb, m.store, true)
	stop()
	restored = backup(tb, m.dsn)
	stop = m.seals(tb, m.store, false)
	_, _, err = m.store.Master.Hold(tb.Context(), 1, db.Serial{2}, act)
	must(tb, err)
	revoke(tb, m.store, 3, db.ReasonKeyCompromise, time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC))
	_, err = m.store.Master.Release(tb.Context(), 1, db.Serial{4}, act)
	must(tb, err)
	sealed(tb, m.store, false)
	m.addIssuer(tb, m.store, 2)
	issue(tb, m.store, 1, 5)
	issue(tb, m.store, 2, 6)
	sealed(tb, m.store, false)
	stop()
	return m, restored
}

func texts(rows []recovery.Row) (all []string) {
	for _, row := range rows {
		all = append(all, fmt.Sprintf("%s %s %s", row.Serial, row.Effect, row.Status.State()))
	}
	return all
}

// A master that was restored, and goes on, finds what its keys signed: by a snapshot and
// the segments after it, or by segments alone, past those that it signed anew itself.
func TestARestoredMasterFindsWhatItSigned(t *testing.T) {
	m, restored := lost(t)
	ctx := t.Context()
	revoke(t, restored, 1, db.ReasonSuperseded, time.Time{}) // the master goes further
	issue(t, restored, 1, 7)
	stop := m.seals(t, restored, false)
	sealed(t, restored, false)
	stop()
	source := recovery.FromSite(m.store.DB, "site-a")
	for name, from := range map[string]recovery.Source{
		"with a snapshot":    source,
		"with segments only": less{Source: source, snapshot: func() ([]byte, error) { return nil, db.ErrNotFound }},
	} {
		h, err := recovery.Read(ctx, restored.Master, m.verifier(t), from)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plan, err := recovery.Compare(ctx, restored.Master, h, "site-a")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := texts(plan.Enter), []string{"02 revoke held", "03 revoke revoked", "05 new good"}; !slices.Equal(got, want) {
			t.Errorf("%s: to be entered: %v, want %v", name, got, want)
		}
		if stays := strings.Join(texts(plan.Stays), ", "); !strings.Contains(stays, "04 kept_revoked good") {
			t.Errorf("%s: stays: %s", name, stays)
		}
		if len(plan.Issuers) != 1 || plan.Issuers[0].Key != [32]byte{2} || plan.Waiting[2] != 1 || !plan.Others() {
			t.Errorf("%s: issuers %v, waiting %v", name, plan.Issuers, plan.Waiting)
		}
		if plan.Enter[1].Status.RevokedAt.Unix() != time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC).Unix() || !plan.Enter[2].Status.NotAfter.Equal(ends) {
			t.Errorf("%s: times: %+v", name, plan.Enter)
		}
	}

	// An issuer of another number at the master is the same issuer.
	m.addIssuer(t, restored, 3)
	m.addIssuer(t, restored, 2)
	h, err := recovery.Read(ctx, restored.Master, m.verifier(t), source)
	must(t, err)
	plan, err := recovery.Compare(ctx, restored.Master, h, "site-a")
	must(t, err)
	last := plan.Enter[len(plan.Enter)-1]
	if len(plan.Issuers) != 0 || last.Issuer.ID != 3 || last.Serial.String() != "06" || plan.Recovery.Batches[1].Issuer != 3 {
		t.Errorf("the issuer that was added again: %+v, batches %+v", last, plan.Recovery.Batches)
	}
}

// What is no certificate is named, and a suspended site's own certificate stays away.
func TestWhatIsNoCertificateIsNamed(t *testing.T) {
	m := newMaster(t)
	stop := m.seals(t, m.store, false)
	issue(t, m.store, 1, 1)
	sealed(t, m.store, false)
	stop()
	restored := backup(t, m.dsn)
	stop = m.seals(t, m.store, false)
	issue(t, m.store, 1, 9)
	dbtest.Exec(t, m.dsn, `select responder_add('site-a', 'http://a', '{}', '', '');
		select responder_feed_pin('site-a', sha256('tls'), '', '');
		insert into responder_planned values (1, '\x09', 'site-a', sha256('k'), '2020-01-01Z', '2099-01-01Z');
		select responder_certificate_add(1, '\x09', 'site-a', sha256('k'), '\x3000', '', '');
		select responder_suspend('site-a', '', '');
		update issuer set backdate = 0, policy_version = policy_version + 1`)
	sealed(t, m.store, false)
	stop()
	h, err := recovery.Read(t.Context(), restored.Master, m.verifier(t), recovery.FromSite(m.store.DB, "site-a"))
	must(t, err)
	plan, err := recovery.Compare(t.Context(), restored.Master, h, "site-a")
	must(t, err)
	if len(plan.Enter) != 0 || !slices.Equal(texts(plan.Stays), []string{"09 new held"}) || plan.Stays[0].Site != "site-a" {
		t.Errorf("to be entered: %v; stays: %v", texts(plan.Enter), texts(plan.Stays))
	}
	if len(plan.Responders) != 1 || plan.Pins != 1 || !slices.Equal(plan.Policies, []string{"issuer-1"}) || !plan.Lost() || len(plan.Recovery.Batches) != 0 {
		t.Errorf("named: %+v", plan)
	}
}

// What no key in force signed, and what does not lead to the checkpoint, is no word of
// this master's.
func TestWhatIsNotProvenIsNotRecovered(t *testing.T) {
	m, restored := lost(t)
	ctx := t.Context()
	source := recovery.FromSite(m.store.DB, "site-a")
	newest, err := m.store.FeedNote(ctx)
	must(t, err)
	other := func(number int64) feed.Sealed {
		g, err := source.Segment(ctx, newest.Epoch, number)
		must(t, err)
		return g
	}
	for name, c := range map[string]struct {
		segment func(int64, feed.Sealed) (feed.Sealed, error)
		want    error
	}{
		"a segment is missing": {func(n int64, g feed.Sealed) (feed.Sealed, error) {
			if n == newest.Number {
				return g, db.ErrNotFound
			}
			return g, nil
		}, feed.ErrGap},
		"a body of another segment": {func(_ int64, g feed.Sealed) (feed.Sealed, error) {
			g.Body = other(1).Body
			return g, nil
		}, feed.ErrForged},
		"a segment in the place of another": {func(int64, feed.Sealed) (feed.Sealed, error) { return other(newest.Number), nil }, feed.ErrMixed},
		"a note that nobody signed": {func(_ int64, g feed.Sealed) (feed.Sealed, error) {
			g.Note = slices.Clone(g.Note)
			g.Note[len(g.Note)-10] ^= 1
			return g, nil
		}, feed.ErrForged},
	} {
		if _, err := recovery.Read(ctx, restored.Master, m.verifier(t), less{Source: source, segment: c.segment}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}

	// A ban that the source alone has heard of, and a set of a stranger's root.
	stranger, next := feedtest.Key(t, feedtest.Origin), feedtest.Key(t, feedtest.Origin)
	set := *m.set
	set.Number = 5
	m.publish(t, m.store, &set, stranger)
	if _, err := recovery.Read(ctx, restored.Master, m.verifier(t), source); err != nil {
		t.Errorf("a set that a stranger signed: %v", err)
	}
	set.Number, set.Keys, set.Banned = 2, []feed.FeedKey{feedtest.Named(next)}, []string{m.key.Verifier()}
	m.publish(t, m.store, &set, m.root)
	if _, err := recovery.Read(ctx, restored.Master, m.verifier(t), source); !errors.Is(err, feed.ErrForged) {
		t.Errorf("a banned key: %v", err)
	}

	// A fleet without a feed: no key of it is in force.
	strangers, err := note.NewVerifier(stranger.Verifier())
	must(t, err)
	dbtest.Exec(t, m.dsn, "delete from feed_keys")
	if _, err := recovery.Read(ctx, m.store.Master, strangers, source); !errors.Is(err, recovery.ErrUnpublished) {
		t.Errorf("no key set: %v", err)
	}
}
