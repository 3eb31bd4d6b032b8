package logical_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/tables"
	"ocspfleet/db/upstream"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/integration/testkit/feedtest"
	"ocspfleet/integration/testkit/pgserver"
	"ocspfleet/integration/testkit/replicatest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/logical"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var act = db.Act{User: "tester", Why: "test"}

// year is an end of validity that no test reaches.
var year = time.Now().Add(365 * 24 * time.Hour).UTC().Truncate(time.Second)

// impatient makes a site's worker try again at once, where PostgreSQL waits 5 s.
var impatient = map[string]string{
	"fsync": "off", "full_page_writes": "off", "wal_retrieve_retry_interval": "200ms",
	"max_logical_replication_workers": "12", "wal_receiver_timeout": "4s",
}

// sites is the cluster of all sites here; the master's is dbtest's own. So every
// row crosses from one server to another.
var sites = sync.OnceValues(func() (*pgserver.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return pgserver.Start(ctx, pgserver.Config{Settings: impatient})
})

const (
	replicaPassword = "the-replica's password"
	syncPassword    = "the-sync-password"
)

// pair is a master and a site.
type pair struct {
	t               *testing.T
	name            string
	master, site    *dbtest.Database // as superusers
	masterDSN       string
	siteDSN         string
	siteServer      *pgserver.Server
	up              *upstream.DB
	local           *dbtest.Database
	log             *replicatest.Log
	line            *replicatest.Line // where the site goes to its master, if not directly
	sub             *logical.Subscription
	stopRun         func()
	config          logical.Config
	replicaPassword string
	second          *feedtest.Corrector // the second person, with a key for corrections
	sealing         *feed.Key           // signs the feed, once it is published
}

// pairs numbers the sites of this binary.
var pairs atomic.Int64

// newPair gives a master with one issuer and a heartbeat, and an empty site, on
// the clusters that the tests share. Nothing runs yet between them. With -short one
// test alone gets them.
func newPair(t *testing.T) *pair {
	t.Helper()
	if testing.Short() && t.Name() != "TestNativeReplicationConforms" {
		t.Skip("starts a master and a site")
	}
	server, err := sites()
	if err != nil {
		t.Fatal(err)
	}
	masterDSN := dbtest.New(t, migrations.Master)
	return newPairOn(t, masterDSN, server)
}

func newPairOn(t *testing.T, masterDSN string, server *pgserver.Server) *pair {
	t.Helper()
	name := fmt.Sprintf("site-%d", pairs.Add(1))
	p := &pair{t: t, name: name, masterDSN: masterDSN, siteServer: server, log: new(replicatest.Log), replicaPassword: replicaPassword}
	p.siteDSN = dbtest.Migrated(t, server, strings.ReplaceAll(name, "-", "_"), migrations.Site)
	p.master, p.site = openStore(t, masterDSN), openStore(t, p.siteDSN)
	if err := p.master.Master.InitHead(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.master.Master.AddIssuer(t.Context(), testIssuer(), act); err != nil {
		t.Fatal(err)
	}
	p.second = feedtest.NewCorrector(t, p.master.Master)
	p.makeLogins()
	t.Cleanup(p.cut)
	p.beat()
	return p
}

// many is for logins that all tests of the binary share: they are the cluster's.
var many = tables.LoginOptions{Connections: 50}

func (p *pair) makeLogins() {
	p.t.Helper()
	if _, err := p.master.CreateLoginWith(p.t.Context(), "test_replica", db.RoleReplica, p.replicaPassword, many, db.Act{User: "test"}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.site.CreateLoginWith(p.t.Context(), "test_sync", db.RoleSync, syncPassword, many, db.Act{User: "test"}); err != nil {
		p.t.Fatal(err)
	}
}

// cut removes subscription and slots, so that the databases can be dropped.
func (p *pair) cut() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if p.t.Failed() {
		lines := strings.Split(readLog(p.t, p.siteServer), "\n")
		p.t.Logf("end of the site's PostgreSQL log:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	dbtest.Exec(p.t, p.siteDSN, "select subscription_drop('ocspfleet'), subscription_drop('ocspfleet_files')")
	up, err := upstream.Open(ctx, tables.Config{DSN: p.masterDSN})
	if err != nil {
		p.t.Fatal(err)
	}
	defer up.Close()
	p.until("the slots are gone", func() bool {
		slots, err := up.Slots(ctx, p.name)
		for _, slot := range slots {
			err = errors.Join(err, up.DropSlot(ctx, slot.Name))
		}
		return err == nil
	})
}

// beat confirms the head, as the master's ocspsyncd does.
func (p *pair) beat() {
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _, _ = p.master.Publisher.Heartbeat(ctx, -1) // the master may be dead by the test's own doing
			time.Sleep(100 * time.Millisecond)
		}
	}()
	p.t.Cleanup(func() { cancel(); <-ended })
}

// run starts the subscription; p.stop ends it. Regular recounts are off unless
// asked for.
func (p *pair) run(change func(*logical.Config)) {
	p.t.Helper()
	var err error
	p.up, err = upstream.Open(p.t.Context(), tables.Config{DSN: p.replicaDSN()})
	if err != nil {
		p.t.Fatal(err)
	}
	p.local = openStore(p.t, login(p.t, p.siteDSN, "test_sync", syncPassword))
	p.config = logical.Config{
		Site: p.name, Local: p.local.Site, Master: p.up, Root: p.second.Verifier(p.t),
		Interval: 50 * time.Millisecond, ProbeInterval: 300 * time.Millisecond,
		StallAfter: 3 * time.Second, LagAfter: 2 * time.Second, RecountInterval: time.Hour,
		Log: p.log.Logger(), Metrics: logical.NewMetrics(prometheus.NewRegistry()),
	}
	if change != nil {
		change(&p.config)
	}
	if p.sub, err = logical.New(p.config); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.sub.Run(ctx) }()
	up := p.up
	p.stopRun = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Errorf("a wished stop gave %v", err)
		}
		up.Close()
	})
	p.t.Cleanup(p.stopRun)
}

// replicaDSN is the way to the master.
func (p *pair) replicaDSN() string {
	dsn := login(p.t, p.masterDSN, "test_replica", p.replicaPassword)
	if p.line == nil {
		return dsn
	}
	u, err := url.Parse(dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	u.Host = p.line.Address()
	return u.String()
}

// start runs the subscription and waits until it streams.
func (p *pair) start(change func(*logical.Config)) {
	p.t.Helper()
	p.run(change)
	p.reaches(logical.Streaming)
}

// until polls for a condition, with a deadline.
func (p *pair) until(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain: %s\nstate %+v\n%s", what, p.state(), p.log)
		}
	}
}

func (p *pair) state() logical.State {
	if p.sub == nil {
		return logical.State{}
	}
	return p.sub.State()
}

func (p *pair) reaches(name logical.Name) {
	p.t.Helper()
	p.until("state "+string(name), func() bool { return p.state().Name == name })
}

// names waits until the log told that a state was entered: it may have passed.
func (p *pair) names(name logical.Name) {
	p.t.Helper()
	p.until("the log names "+string(name), func() bool { return strings.Contains(p.log.String(), " to="+string(name)+" ") })
}

// heals waits until site and master agree, row by row, and the site streams.
func (p *pair) heals() {
	p.t.Helper()
	diff := ""
	defer func() { // until ends the test
		if diff != "" {
			p.t.Errorf("rows (-master +site):\n%s", diff)
		}
	}()
	p.until("site and master agree", func() bool {
		if p.state().Name != logical.Streaming {
			return false
		}
		head, err := p.site.Head(p.t.Context())
		want, masterErr := p.master.Head(p.t.Context())
		if err != nil || masterErr != nil || head.Position != want.Position || dbtest.Same(p.t.Context(), p.master.DB, p.site.DB) != nil {
			return false
		}
		diff = cmp.Diff(rowsOf(p.t, p.masterDSN), rowsOf(p.t, p.siteDSN))
		return diff == ""
	})
}

func (p *pair) verified() bool {
	counts, err := p.site.Verify(p.t.Context())
	return err == nil && db.Differences(counts) == ""
}

func (p *pair) issue(serials ...string) {
	p.t.Helper()
	for _, s := range serials {
		if _, err := p.master.Master.Issue(p.t.Context(), 1, serial(s), year, act); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *pair) revoke(s string, reason db.Reason) {
	p.t.Helper()
	if _, _, err := p.master.Master.Revoke(p.t.Context(), 1, serial(s), reason, time.Time{}, act); err != nil {
		p.t.Fatal(err)
	}
}

// reason is why the site's copy says that a serial is revoked, or "good".
func (p *pair) siteSays(s string) string {
	p.t.Helper()
	status, err := p.site.Certificate(p.t.Context(), 1, serial(s))
	switch {
	case errors.Is(err, db.ErrNotIssued):
		return "never issued"
	case err != nil:
		p.t.Fatal(err)
	case !status.Revoked:
		return "good"
	}
	return "revoked " + status.Reason.String()
}

func (p *pair) seenAtSite(s, want string) {
	p.t.Helper()
	p.until(fmt.Sprintf("the site says %s for %s", want, s), func() bool { return p.siteSays(s) == want })
}

// dropSlots ends the streams and drops the site's slots behind its back.
func (p *pair) dropSlots() {
	p.t.Helper()
	prefix := db.SlotPrefix(p.name)
	conn := dbtest.Connect(p.t, p.masterDSN)
	p.until("the slot is dropped", func() bool {
		_, err := conn.Exec(p.t.Context(), `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name ~ $1 and active`, "^"+prefix+"[0-9]+$")
		if err != nil {
			p.t.Fatal(err)
		}
		_, err = conn.Exec(p.t.Context(), `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name ~ $1`, "^"+prefix+"[0-9]+$")
		return err == nil
	})
}

func serial(text string) db.Serial {
	s, err := db.ParseSerial(text)
	if err != nil {
		panic(err)
	}
	return s
}

func testIssuer() db.Issuer {
	return db.Issuer{
		Key: [32]byte{1}, Name: "issuer-1", Certificate: []byte{0x30, 0x01, 1},
		Policy: db.Policy{
			Validity: 72 * time.Hour, Backdate: 5 * time.Minute, MaxStaleness: 36 * time.Hour, FreshForUnknown: 15 * time.Minute,
			HTTPMaxAge: time.Hour, NeverIssued: db.NeverIssuedUnknown, Profile: db.ProfileRevocable,
		},
	}
}

func openStore(t *testing.T, dsn string) *dbtest.Database {
	t.Helper()
	store := dbtest.Open(t, dsn)
	return store
}

func login(t *testing.T, dsn, user, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

// rowsOf reads all certificates as text, in order.
func rowsOf(t *testing.T, dsn string) []string {
	t.Helper()
	var text *string
	err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select string_agg(concat_ws(' ', issuer_id, encode(serial, 'hex'), not_after, revoked_at, reason), e'\n'
		order by issuer_id, serial) from certificate`).Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	if text == nil {
		return nil
	}
	return strings.Split(*text, "\n")
}

func readLog(t *testing.T, s *pgserver.Server) string {
	t.Helper()
	text, err := os.ReadFile(s.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
