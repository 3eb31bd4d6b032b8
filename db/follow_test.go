package db_test

import (
	"context"
	"errors"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/sitedb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

// siteStore is a site with a head and two certificates, of which one is gone
// again, as ocsp_responder sees it.
func siteStore(t *testing.T) *sitedb.DB {
	t.Helper()
	dsn := dbtest.New(t, migrations.Site)
	dbtest.Exec(t, dsn, `
		insert into feed_head values (1, 1000, 7, clock_timestamp(), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, 0, '');
		insert into certificate (issuer_id, serial, not_after) values (1, '\x01', '2099-01-01'), (1, '\x02', '2099-01-01');
		delete from certificate where serial = '\x01'`)
	store, err := sitedb.Open(t.Context(), pg.Config{DSN: dbtest.As(dsn, "ocsp_responder")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func TestLookReadsChangesInOrderUpToTheLimit(t *testing.T) {
	store := siteStore(t)
	type seen struct {
		Seq     uint64
		Deleted bool
		Serial  string
	}
	read := func(after uint64, limit int) (list []seen, more bool) {
		err := store.ReadTx(t.Context(), func(ctx context.Context, l *sitedb.ReadTx) (err error) {
			if l.Head.Position != 7 || l.LastSeq != 3 || l.TrimmedTo != 0 || l.HasSkew || l.SynchronousCommit != "" || l.Started.IsZero() {
				t.Errorf("look %+v", l)
			}
			list = nil
			more, err = l.Changes(ctx, after, limit, func(c sitedb.CertificateChange) error {
				var serial db.Serial
				var err error
				if c.Deleted {
					_, serial, err = db.ParseCertificateKey(c.Content)
				} else {
					_, serial, _, err = db.ParseCertificate(c.Content)
				}
				list = append(list, seen{c.Seq, c.Deleted, serial.String()})
				return err
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return list, more
	}
	both := []seen{{2, false, "02"}, {3, true, "01"}}
	for _, test := range []struct {
		after uint64
		limit int
		want  []seen
		more  bool
	}{{0, 10, both, false}, {0, 2, both, false}, {0, 1, both[:1], true}, {2, 1, both[1:], false}, {3, 1, nil, false}} {
		got, more := read(test.after, test.limit)
		if diff := cmp.Diff(test.want, got); diff != "" || more != test.more {
			t.Errorf("after %d, limit %d: more %t, %s", test.after, test.limit, more, diff)
		}
	}
}

func TestLookIsTakenAgainAfterADeadlock(t *testing.T) {
	store := siteStore(t)
	deadlock := &pgconn.PgError{Code: "40P01", Message: "deadlock detected"}
	for _, test := range []struct{ failures, calls int }{{0, 1}, {2, 3}, {9, 3}} {
		calls := 0
		err := store.ReadTx(t.Context(), func(context.Context, *sitedb.ReadTx) error {
			if calls++; calls <= test.failures {
				return deadlock
			}
			return nil
		})
		if calls != test.calls || (err != nil) != (test.failures > 2) || (err != nil && !errors.Is(err, deadlock)) {
			t.Errorf("%d failures: %d calls, %v", test.failures, calls, err)
		}
	}
	other, calls := errors.New("other"), 0
	if err := store.ReadTx(t.Context(), func(context.Context, *sitedb.ReadTx) error { calls++; return other }); !errors.Is(err, other) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestReadTxWithoutAHead(t *testing.T) {
	store, err := sitedb.Open(t.Context(), pg.Config{DSN: dbtest.New(t, migrations.Site)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	err = store.ReadTx(t.Context(), func(context.Context, *sitedb.ReadTx) error { return nil })
	if !errors.Is(err, db.ErrNoHead) {
		t.Error(err)
	}
}
