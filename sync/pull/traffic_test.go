package pull_test

import (
	"crypto/rand"
	"math"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/pull"
)

// counted is a listener whose connections count their octets, both ways: TLS and
// HTTP are in them, TCP's and IP's own are not.
type counted struct {
	net.Listener
	octets atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c, &l.octets}, nil
}

type countedConn struct {
	net.Conn
	octets *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.octets.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.octets.Add(int64(n))
	return n, err
}

// traffic is a site that follows a master, over a counted line.
type traffic struct {
	*master
	site   *site
	line   *counted
	client *feedhttp.Client
}

func newTraffic(tb testing.TB) *traffic {
	tb.Helper()
	return newTrafficOf(tb, newMaster(tb))
}

func newTrafficOf(tb testing.TB, m *master) *traffic {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	t := &traffic{master: m, site: newSite(tb), line: &counted{Listener: l}}
	t.client = askedAt(tb, t.line, t.store, t.latest, identity(tb), t.site.id, nil, true)
	t.site.pulls(tb, t.master, func(c *pull.Config) { c.Wait, c.Recount = 75*time.Second, time.Hour }, t.client)
	t.site.equals(tb, t.master)
	return t
}

// cost does something n times, waits each time until the site knows of it, and
// returns the octets of each.
func (t *traffic) cost(tb testing.TB, n int, do func(i int) error) float64 {
	tb.Helper()
	began := t.line.octets.Load()
	for i := range n {
		if err := do(i); err != nil {
			tb.Fatal(err)
		}
		want, err := t.store.Head(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		for tries := 0; ; tries++ {
			got, err := t.site.store.Head(tb.Context())
			if err == nil && got.Position >= want.Position && !got.AsOf.Before(want.AsOf) {
				break
			}
			if tries == 30_000 {
				tb.Fatalf("the site is at %d of %d, of %v (%v)", got.Position, want.Position, got.AsOf, err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return float64(t.line.octets.Load()-began) / float64(n)
}

// checkIn is what a look at the master's clock costs, by the connection that is there.
func (t *traffic) checkIn(tb testing.TB) float64 {
	tb.Helper()
	began := t.line.octets.Load()
	const looks = 20
	for range looks {
		if _, err := t.client.Clock(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
	return float64(t.line.octets.Load()-began) / looks
}

// monthly is what a month of the seed's CA costs, and an idle one: the events, one
// confirmation for each minute in which nothing else was signed, and the visits.
func (t *traffic) monthly(tb testing.TB, beat, issue, revoke float64) (idle, busy float64) {
	tb.Helper()
	checkIns := month * minutes / checkInMinutes * t.checkIn(tb)
	return month*minutes*beat + checkIns, month*(seedsIssued*issue+seedsRevoked*revoke+seedsBeats()*beat) + checkIns
}

func (t *traffic) costs(tb testing.TB, n int) (beat, issue, revoke float64) {
	tb.Helper()
	serials := make([]db.Serial, n)
	beat = t.cost(tb, n, func(int) error {
		time.Sleep(2 * time.Millisecond) // the head's time is in milliseconds
		_, _, err := t.store.Publisher.Heartbeat(tb.Context(), -1)
		return err
	})
	issue = t.cost(tb, n, func(i int) error {
		serials[i] = make([]byte, 16)
		if _, err := rand.Read(serials[i]); err != nil {
			return err
		}
		serials[i][0] = serials[i][0]&0x7f | 0x40
		_, err := t.store.Master.Issue(tb.Context(), 1, serials[i], time.Now().Add(90*24*time.Hour), act)
		return err
	})
	revoke = t.cost(tb, n, func(i int) error {
		_, _, err := t.store.Master.Revoke(tb.Context(), 1, serials[i], db.ReasonSuperseded, time.Time{}, act)
		return err
	})
	return beat, issue, revoke
}

// The days that the traffic is told for.
const (
	minutes        = 24 * 60
	seedsIssued    = 1000
	seedsRevoked   = 200
	month          = 30
	checkInMinutes = 4
	monthlyAllowed = 30e6
)

// seedsBeats is how many confirmations are signed in a day with changes at random:
// one for each whole minute between two of them.
func seedsBeats() float64 {
	const changes = seedsIssued + seedsRevoked
	return changes / (math.Exp(float64(changes)/minutes) - 1)
}

// An idle month, and a month of a CA that issues 1,000 and revokes 200 certificates
// a day, cost a site at most 30 MB, TLS and HTTP included.
func TestTrafficOfAMonthIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("counts the traffic of a month")
	}
	t.Parallel()
	line := newTraffic(t)
	beat, issue, revoke := line.costs(t, 40)
	idle, busy := line.monthly(t, beat, issue, revoke)
	t.Logf("octets for a confirmation %.0f, a certificate %.0f, a revocation %.0f; MB a month idle %.1f, busy %.1f", beat, issue, revoke, idle/1e6, busy/1e6)
	if idle > monthlyAllowed || busy > monthlyAllowed {
		t.Errorf("a month costs %.1f MB idle and %.1f MB busy, allowed are 30", idle/1e6, busy/1e6)
	}
}

// The same as a benchmark, with some more events.
func BenchmarkTraffic(b *testing.B) {
	t := newTraffic(b)
	var beat, issue, revoke float64
	for b.Loop() {
		beat, issue, revoke = t.costs(b, 90) // one person revokes 100 an hour
	}
	b.ReportMetric(beat, "octets/confirmation")
	b.ReportMetric(issue, "octets/certificate")
	b.ReportMetric(revoke, "octets/revocation")
	idle, busy := t.monthly(b, beat, issue, revoke)
	b.ReportMetric(idle/1e6, "idle-MB/month")
	b.ReportMetric(busy/1e6, "busy-MB/month")
}

// The same with a master of 1 M certificates, a tenth of them revoked, and what a new
// site's snapshot costs.
func BenchmarkTrafficMillion(b *testing.B) {
	m := newMaster(b)
	dbtest.Exec(b, m.dsn, `insert into certificate select 1, '\x40' || substring(sha256(int4send(g)) for 15), timestamptz '2027-01-01' + g % 7776000 * interval '1 s',
		case when g % 10 = 0 then timestamptz '2026-06-01' + g % 7776000 * interval '1 s' end, null from generate_series(1, 1000000) g`)
	m.sealed(b)
	t := newTrafficOf(b, m)
	seed := float64(t.line.octets.Load())
	var beat, issue, revoke float64
	for b.Loop() {
		beat, issue, revoke = t.costs(b, 60) // one person revokes 100 an hour
	}
	b.ReportMetric(seed/1e6, "snapshot-MB")
	idle, busy := t.monthly(b, beat, issue, revoke)
	b.ReportMetric(idle/1e6, "idle-MB/month")
	b.ReportMetric(busy/1e6, "busy-MB/month")
}
