package pull_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"net/http"
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
	"ocspfleet/sync/pull"

	"golang.org/x/mod/sumdb/note"
)

const origin = "ca.example/status"

var (
	act   = db.Act{User: "tester", Why: "test"}
	quiet = slog.New(slog.DiscardHandler)
)

func open(tb testing.TB, dsn string) *dbtest.Database {
	tb.Helper()
	store := dbtest.Open(tb, dsn)
	return store
}

func private(tb testing.TB) ed25519.PrivateKey {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func feedKey(tb testing.TB) *feed.Key {
	tb.Helper()
	key, err := feed.NewKey(origin, private(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func identity(tb testing.TB) *feedhttp.Identity {
	tb.Helper()
	id, err := feedhttp.NewIdentity(private(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// runs starts a worker that ends with the test, or when stop is called.
func runs(tb testing.TB, run func(context.Context) error) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil {
			tb.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	tb.Cleanup(stop)
	return stop
}

// serve answers over TLS until the test ends; wrap may tamper with it.
func serve(tb testing.TB, store *dbtest.Database, latest *feedhttp.Latest, caller *feedhttp.Identity, wrap func(http.Handler) http.Handler) (client *feedhttp.Client) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return serveOn(tb, l, store, latest, caller, wrap)
}

func serveOn(tb testing.TB, l net.Listener, store *dbtest.Database, latest *feedhttp.Latest, caller *feedhttp.Identity, wrap func(http.Handler) http.Handler) (client *feedhttp.Client) {
	tb.Helper()
	return askedAt(tb, l, store, latest, identity(tb), caller, wrap, false)
}

// serveMaster is serve by a source that is configured as the master.
func serveMaster(tb testing.TB, store *dbtest.Database, latest *feedhttp.Latest, caller *feedhttp.Identity, wrap func(http.Handler) http.Handler) (client *feedhttp.Client) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return askedAt(tb, l, store, latest, identity(tb), caller, wrap, true)
}

func askedAt(tb testing.TB, l net.Listener, store *dbtest.Database, latest *feedhttp.Latest, id, caller *feedhttp.Identity, wrap func(http.Handler) http.Handler, master bool) (client *feedhttp.Client) {
	tb.Helper()
	access := &feedhttp.AccessList{}
	access.Set(map[feedhttp.Pin]string{caller.Pin: "caller"})
	cfg := feedhttp.ServerConfig{Store: store.DB, Latest: latest, Access: access, Log: quiet}
	if master {
		cfg.Clock = store.Clock
	}
	return listenOn(tb, l, cfg, access, id, caller, wrap, master)
}

// listensAs serves as the master does.
func listensAs(tb testing.TB, cfg feedhttp.ServerConfig, access *feedhttp.AccessList, id, caller *feedhttp.Identity) *feedhttp.Client {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return listenOn(tb, l, cfg, access, id, caller, nil, true)
}

func listenOn(tb testing.TB, l net.Listener, cfg feedhttp.ServerConfig, access *feedhttp.AccessList, id, caller *feedhttp.Identity, wrap func(http.Handler) http.Handler, master bool) (client *feedhttp.Client) {
	tb.Helper()
	server := feedhttp.NewServer(cfg).HTTP()
	if wrap != nil {
		server.Handler = wrap(server.Handler)
	}
	server.TLSConfig = id.ServerTLS(access)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(l, "", "") }()
	tb.Cleanup(func() { _ = server.Close(); <-done })
	client, err := feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://" + l.Addr().String(), Pin: id.Pin, Master: master, Identity: caller, Stall: 2 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// master seals and serves.
type master struct {
	dsn    string
	store  *dbtest.Database
	latest *feedhttp.Latest
	root   *feed.Key
	key    *feed.Key
	keys   *feed.KeySet
	// corrects is the second person's, for corrections.
	corrects *feed.Key
}

func newMaster(tb testing.TB) *master {
	tb.Helper()
	m := prepare(tb)
	runs(tb, publish.NewSnapshotter(publish.SnapshotterConfig{Store: m.store.Publisher, Key: m.key, Keys: m.keys, Poll: 20 * time.Millisecond, Log: quiet}).Run)
	m.seals(tb)
	return m
}

// prepare makes a master's database, its keys and key set; nothing is sealed yet.
func prepare(tb testing.TB) *master {
	tb.Helper()
	dsn := dbtest.New(tb, migrations.Master)
	m := &master{dsn: dsn, store: open(tb, dsn), latest: &feedhttp.Latest{}, root: feedKey(tb), key: feedKey(tb), corrects: feedKey(tb)}
	if err := m.store.Master.InitHead(tb.Context(), time.Now()); err != nil {
		tb.Fatal(err)
	}
	_, err := m.store.Master.AddIssuer(tb.Context(), db.Issuer{
		Key: [32]byte{1}, Name: "issuer", Certificate: []byte{0x30, 0x00},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable, CRLURL: "http://ca.example/crl",
		},
	}, act)
	if err != nil {
		tb.Fatal(err)
	}
	head, err := m.store.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	m.keys = &feed.KeySet{Origin: origin, Number: 1, Epoch: head.Epoch, Correct: []feed.FeedKey{feedtest.Named(m.corrects)}}
	m.names(tb, m.key)
	return m
}

// names adds a key to the key set and has the root sign it.
func (m *master) names(tb testing.TB, key *feed.Key) {
	tb.Helper()
	m.keys.Keys = append(m.keys.Keys, feed.FeedKey{
		From: time.Now().Add(-time.Hour).Truncate(time.Second), Until: time.Now().Add(time.Hour).Truncate(time.Second), Verifier: key.Verifier(),
	})
	signed, err := m.keys.Sign(m.root)
	if err != nil {
		tb.Fatal(err)
	}
	if err := m.store.KeepFeedKeys(tb.Context(), m.keys.Number, signed); err != nil {
		tb.Fatal(err)
	}
}

func (m *master) seals(tb testing.TB) (stop func()) {
	tb.Helper()
	sealer, err := publish.NewSealer(publish.SealerConfig{
		Store: m.store.Publisher, Key: m.key, Keys: m.keys, Latest: m.latest, Wait: 10 * time.Millisecond, Confirm: 100 * time.Millisecond, Log: quiet,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return runs(tb, sealer.Run)
}

func serial(n int) db.Serial { return binary.BigEndian.AppendUint64([]byte{0x40}, uint64(n)) }

func (m *master) issue(tb testing.TB, n int) {
	tb.Helper()
	if _, err := m.store.Master.Issue(tb.Context(), 1, serial(n), time.Now().Add(24*time.Hour), act); err != nil {
		tb.Fatal(err)
	}
}

func (m *master) revoke(tb testing.TB, n int, reason db.Reason) {
	tb.Helper()
	if _, _, err := m.store.Master.Revoke(tb.Context(), 1, serial(n), reason, time.Time{}, act); err != nil {
		tb.Fatal(err)
	}
}

// site pulls.
type site struct {
	dsn    string
	store  *dbtest.Database // the superuser's
	sync   *dbtest.Database // of ocsp_sync
	latest *feedhttp.Latest
	id     *feedhttp.Identity
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	dsn := dbtest.New(tb, migrations.Site)
	return &site{dsn: dsn, store: open(tb, dsn), sync: open(tb, dbtest.As(dsn, "ocsp_sync")), latest: &feedhttp.Latest{}, id: identity(tb)}
}

// plants puts files that nobody has verified among those that a site relays.
func (s *site) plants(tb testing.TB, n db.FeedNote, g *db.Segment) {
	tb.Helper()
	conn := dbtest.Connect(tb, s.dsn)
	exec := func(sql string, args ...any) {
		if _, err := conn.Exec(tb.Context(), sql, args...); err != nil {
			tb.Fatal(err)
		}
	}
	if g != nil {
		exec("insert into segment (epoch, number, first, last, hash, note, note_hash, snapshot_required, body) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			g.Epoch, g.Number, g.First, g.Last, g.Hash[:], g.Note, g.NoteHash[:], g.SnapshotRequired, g.Body)
		exec("update feed_anchor set epoch = $1, number = $2, hash = $3, note_hash = $4", g.Epoch, g.Number, g.Hash[:], g.NoteHash[:])
	}
	exec("update feed_checkpoint set epoch = $1, number = $2, position = $3, as_of = $4, note = $5", n.Epoch, n.Number, n.Position, n.AsOf, n.Note)
}

func (s *site) pulls(tb testing.TB, m *master, change func(*pull.Config), sources ...*feedhttp.Client) (p *pull.Puller, stop func()) {
	tb.Helper()
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		tb.Fatal(err)
	}
	cfg := pull.Config{
		Store: s.sync.Site, Origin: origin, Root: root, Sources: sources, Latest: s.latest, Wait: 200 * time.Millisecond,
		Backoff: 10 * time.Millisecond, Recount: 50 * time.Millisecond, Log: quiet,
	}
	if change != nil {
		change(&cfg)
	}
	if p, err = pull.New(cfg); err != nil {
		tb.Fatal(err)
	}
	return p, runs(tb, p.Run)
}

// equals waits until the site has what the master has, recounted.
func (s *site) equals(tb testing.TB, m *master) {
	tb.Helper()
	want, err := m.store.Head(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var got db.Head
	for range 6000 {
		if got, err = s.store.Head(tb.Context()); err == nil && got.Position >= want.Position {
			if err = dbtest.Same(tb.Context(), m.store.DB, s.store.DB); err == nil {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Fatalf("the site is at position %d of %d: %v", got.Position, want.Position, err)
}

func (s *site) verified(tb testing.TB) bool {
	tb.Helper()
	counts, err := s.store.Verify(tb.Context())
	if err != nil {
		return false
	}
	for _, c := range counts {
		if !c.Identical {
			return false
		}
	}
	return true
}
