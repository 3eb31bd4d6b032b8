package index_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/index"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// The server that all tests share ends with the binary.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("ocspfleet/integration/testkit/pgserver.(*Server).launch.func1"),
		goleak.IgnoreAnyFunction("ocspfleet/integration/testkit/pgserver.startKeeper.func1"))
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// settle makes the head what the rows are, as the master's would be.
const settle = `
	update feed_head set position = position + 1, as_of = date_trunc('milliseconds', clock_timestamp()),
	  (certificate_count, certificate_digest) = (select count(*), mod64(coalesce(sum(row_digest(certificate_canonical(issuer_id, serial, not_after, revoked_at, reason))), 0)) from certificate),
	  (issuer_count, issuer_digest) = (select count(*), mod64(coalesce(sum(row_digest(issuer_canonical(i))), 0)) from issuer i),
	  (responder_certificate_count, responder_certificate_digest) = (select count(*), mod64(coalesce(sum(row_digest(responder_certificate_canonical(r))), 0)) from responder_certificate r),
	  (correction_count, correction_digest) = (select count(*), mod64(coalesce(sum(row_digest(correction_canonical(issuer_id, serial, revoked_at, corrected_at, note))), 0)) from correction);`

// firstHead makes the head of a seed.
const firstHead = `insert into feed_head values (1, 1000, 1, clock_timestamp(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, 0, '');`

// An issuer, a responder certificate and three certificates: 01 good, 02 revoked
// for ever, 03 on hold.
const seed = `
	insert into issuer values (1, sha256('key'), 'ca', 'certificate', 259200, 300, 129600, 900, 3600, 'unknown', 'revocable', '', 1);
	insert into certificate (issuer_id, serial, not_after, revoked_at, reason) values
	  (1, '\x01', '2099-01-01', null, null),
	  (1, '\x02', '2099-01-01', '2026-01-01', 1),
	  (1, '\x03', '2099-01-01', '2026-01-01', 6);
	insert into responder_certificate values (sha256('der'), 1, '\x01', 'site-a', sha256('spki'), 'der');` + firstHead + settle

// site is a site's database, written to as a superuser.
type site struct {
	t    testing.TB
	dsn  string
	pool *pgxpool.Pool
}

func newSite(t testing.TB, dsn string) *site {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = "public, ocsp_feed, ocsp_internal, pg_temp"
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &site{t, dsn, pool}
}

func seededSite(t testing.TB) *site {
	t.Helper()
	s := newSite(t, dbtest.New(t, migrations.Site))
	s.tx(seed)
	return s
}

// tx runs statements in one transaction.
func (s *site) tx(statements ...string) {
	s.t.Helper()
	err := pgx.BeginFunc(s.t.Context(), s.pool, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(s.t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// copied is an index that follows a site, with its clock and its log.
type copied struct {
	*index.Index
	t        testing.TB
	ahead    atomic.Int64 // of the clock, nanoseconds
	log      *logBook
	registry *prometheus.Registry
	stop     func()
}

// follow starts an index as ocsp_responder, who may only read.
func follow(t testing.TB, dsn string, poll time.Duration) *copied {
	t.Helper()
	return followWith(t, dsn, poll, nil)
}

// followWith is follow with a judge of key sets.
func followWith(t testing.TB, dsn string, poll time.Duration, trust func(keys [][]byte) (index.Trust, error)) *copied {
	t.Helper()
	store, err := sitedb.Open(t.Context(), pg.Config{DSN: dbtest.As(dsn, "ocsp_responder")})
	if err != nil {
		t.Fatal(err)
	}
	c := &copied{t: t, log: &logBook{}, registry: prometheus.NewRegistry()}
	c.Index, err = index.Open(t.Context(), store, index.Config{
		Poll: poll, Logger: slog.New(slog.NewTextHandler(c.log, nil)), Metrics: index.NewMetrics(c.registry), Trust: trust,
		Now: func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	c.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		store.Close()
	}
	t.Cleanup(func() { c.stop() })
	return c
}

// followed is an index of a seeded site that has loaded it. It polls fast.
func followed(t testing.TB, s *site) *copied {
	t.Helper()
	c := follow(t, s.dsn, 20*time.Millisecond)
	c.eventually("ready", func() bool { return c.Ready() == nil })
	return c
}

func (c *copied) eventually(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s; state %+v, log:\n%s", patience, what, c.State(), c.log)
		}
	}
}

// caughtUp waits until the index has adopted the head that the site has now.
func (c *copied) caughtUp(s *site) {
	c.t.Helper()
	var position int64
	if err := s.pool.QueryRow(c.t.Context(), "select position from feed_head").Scan(&position); err != nil {
		c.t.Fatal(err)
	}
	c.eventually("caught up", func() bool { h := c.Horizon(); return h.Position == position && h.Doubt == "" })
}

// says returns good, revoked, hold or absent for a serial of issuer 1.
func (c *copied) says(serial ...byte) string {
	c.t.Helper()
	status, _, err := c.Lookup(c.t.Context(), 1, serial)
	return word(status, err)
}

func word(status db.Status, err error) string {
	switch {
	case errors.Is(err, db.ErrNotIssued):
		return "absent"
	case err != nil:
		return err.Error()
	case status.Permanent():
		return "revoked"
	case status.Revoked:
		return "hold"
	}
	return "good"
}

func (c *copied) expect(serial byte, want string) {
	c.t.Helper()
	if got := c.says(serial); got != want {
		c.t.Errorf("serial %02x is %s, want %s", serial, got, want)
	}
}

// expectDoubt waits for a doubt that begins with want, and sees that the
// permanent revocation of 02 is known nevertheless.
func (c *copied) expectDoubt(want string) {
	c.t.Helper()
	c.eventually("doubt: "+want, func() bool { return strings.HasPrefix(c.Horizon().Doubt, want) })
	if err := c.Ready(); err == nil || !strings.HasPrefix(err.Error(), want) {
		c.t.Errorf("Ready: %v", err)
	}
	c.expect(2, "revoked")
}

func (c *copied) metric(name string) float64 {
	c.t.Helper()
	families, err := c.registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	c.t.Fatalf("no metric %s", name)
	return 0
}
