package db_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"ocspfleet/integration/testkit/dbtest"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// Eight writers on few keys, with all kinds of statements, while readers poll:
// positions are dense and in commit order, no reader sees a gap, every snapshot
// carries the digest it must have.
func TestHeadUnderEightWriters(t *testing.T) {
	if testing.Short() {
		t.Skip("is a long load")
	}
	dsn, _ := newMaster(t)
	dbtest.Exec(t, dsn, "alter database "+databaseName(t, dsn)+" set deadlock_timeout = '20ms'")
	length := 8 * time.Second
	if testing.Short() {
		length = 2 * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var group errgroup.Group
	var mu sync.Mutex
	committed, aborted := 0, map[string]int{}
	for w := range 8 {
		group.Go(func() error {
			conn, err := dbtest.Dial(t.Context(), dsn)
			if err != nil {
				return err
			}
			defer conn.Close(context.Background())
			random := rand.New(rand.NewPCG(uint64(w), 7))
			for ctx.Err() == nil {
				err := randomTransaction(t.Context(), conn, random)
				mu.Lock()
				if err == nil {
					committed++
				} else {
					aborted[sqlState(err)]++
				}
				mu.Unlock()
			}
			return nil
		})
	}
	group.Go(func() error { return pollForGaps(ctx, t, dsn) })
	group.Go(func() error { return recount(ctx, t, dsn) })
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d committed, aborted by state: %v", committed, aborted)
	if committed < 100 {
		t.Errorf("only %d transactions committed", committed)
	}
	changes := assertConsistent(t, dsn)
	assertCommitOrder(t, dsn, changes)
}

func databaseName(t *testing.T, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return config.Database
}

func randomTransaction(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	for range 1 + r.IntN(4) {
		if err := randomStatement(ctx, tx, r); err != nil {
			return err
		}
	}
	if r.IntN(5) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

func randomStatement(ctx context.Context, tx pgx.Tx, r *rand.Rand) error {
	from := r.IntN(400)
	to := from + r.IntN(20)
	run := func(sql string) error { _, err := tx.Exec(ctx, fmt.Sprintf(sql, from, to)); return err }
	const serial = `'\x11' || int4send(i)`
	const keys = `serial in (select '\x11' || int4send(i) from generate_series(%d, %d) i)`
	switch r.IntN(8) {
	case 0:
		return run(`insert into certificate select 1, ` + serial + `, '2040-01-01Z' from generate_series(%d, %d) i on conflict do nothing`)
	case 1:
		return run(`insert into certificate select 1, ` + serial + `, '2040-01-01Z' from generate_series(%d, %d) i
			on conflict (issuer_id, serial) do update set not_after = certificate.not_after + interval '1 s'`)
	case 2:
		return run(`update certificate set revoked_at = '2026-01-01Z', reason = 6 where ` + keys)
	case 3:
		return run(`update certificate set revoked_at = null, reason = null where ` + keys)
	case 4:
		return run(`delete from certificate where ` + keys)
	case 5: // a modifying CTE: delete and insert in one statement
		return run(`with d as (delete from certificate where ` + keys + ` returning *)
			insert into certificate select issuer_id, '\x12' || int8send(pg_current_xact_id()::text::int8 * 1000 + row_number() over ()), not_after from d limit 3`)
	case 6:
		nested, err := tx.Begin(ctx) // a savepoint
		if err != nil {
			return err
		}
		if err := randomStatement(ctx, nested, r); err != nil {
			return nested.Rollback(ctx)
		}
		if r.IntN(2) == 0 {
			return nested.Rollback(ctx)
		}
		return nested.Commit(ctx)
	default:
		rows := make([][]any, 1+r.IntN(10))
		for i := range rows {
			serial := make([]byte, 12)
			serial[0] = 0x13
			for j := range 11 {
				serial[j+1] = byte(r.Uint32())
			}
			rows[i] = []any{1, serial, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"certificate"}, []string{"issuer_id", "serial", "not_after"}, pgx.CopyFromRows(rows))
		return err
	}
}

// pollForGaps asks for position > last again and again; the next one must be last + 1.
func pollForGaps(ctx context.Context, t *testing.T, dsn string) error {
	conn, err := dbtest.Dial(t.Context(), dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	last, polls := int64(0), 0
	for ; ctx.Err() == nil; polls++ {
		changes, err := changesAfter(t.Context(), conn, last)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if c.Position != last+1 {
				return fmt.Errorf("after position %d the reader saw %d", last, c.Position)
			}
			last = c.Position
		}
	}
	t.Logf("the reader saw %d changes in %d polls", last, polls)
	return nil
}

func recount(ctx context.Context, t *testing.T, dsn string) error {
	store := open(t, dsn)
	for ctx.Err() == nil {
		counts, err := store.Verify(t.Context())
		if err != nil {
			return err
		}
		for _, c := range counts {
			if !c.Identical {
				return fmt.Errorf("a snapshot of %s counts %+v under a head of %+v", c.Table, c.Counted, c.Head)
			}
		}
	}
	return nil
}

// assertCommitOrder checks that commit timestamps never fall with position and
// that each transaction is one block of positions.
func assertCommitOrder(t *testing.T, dsn string, changes []change) {
	t.Helper()
	seen := map[string]bool{}
	last := ""
	for _, c := range changes {
		if c.XID != last && seen[c.XID] {
			t.Fatalf("transaction %s has positions in two places, again at %d", c.XID, c.Position)
		}
		seen[c.XID], last = true, c.XID
	}
	var falls int
	err := dbtest.Connect(t, dsn).QueryRow(t.Context(), `select count(*) from (
		select at < lag(at) over (order by last) as fell from (select last, pg_xact_commit_timestamp(xid::xid) as at from change_tx) t) f where fell`).Scan(&falls)
	if err != nil || falls != 0 {
		t.Errorf("%d transactions committed before their predecessor in position (%v)", falls, err)
	}
}
