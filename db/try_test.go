package db_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"

	"github.com/jackc/pgx/v5"
)

// What is tried leaves nothing: no row, no change, no audit entry, no position.
func TestTryLeavesNothing(t *testing.T) {
	_, store := newMaster(t)
	ctx := t.Context()
	mustIssue(t, store, "01")
	before, err := store.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var status db.Status
	var changed bool
	err = store.Try(ctx, false, func(s *masterdb.DB) (err error) {
		if status, changed, err = s.Revoke(ctx, 1, db.Serial{1}, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
			return err
		}
		_, err = s.Issue(ctx, 1, db.Serial{2}, year, act)
		return err
	})
	if err != nil || !changed || status.Reason != db.ReasonKeyCompromise {
		t.Errorf("tried: %+v, %t, %v", status, changed, err)
	}
	if after, err := store.Head(ctx); err != nil || after.Position != before.Position || after.AuditCount != before.AuditCount {
		t.Errorf("the head went from %+v to %+v, %v", before, after, err)
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || s.Revoked {
		t.Errorf("the certificate is %+v, %v", s, err)
	}
	if _, err := store.Certificate(ctx, 1, db.Serial{2}); !errors.Is(err, db.ErrNotIssued) {
		t.Errorf("the other one: %v", err)
	}
}

// With apply it is all or nothing, and done.
func TestTryAppliesAllOrNothing(t *testing.T) {
	_, store := newMaster(t)
	ctx := t.Context()
	mustIssue(t, store, "01")
	revoke := func(serials ...byte) error {
		return store.Try(ctx, true, func(s *masterdb.DB) error {
			for _, n := range serials {
				if _, _, err := s.Revoke(ctx, 1, db.Serial{n}, db.ReasonNone, time.Time{}, act); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := revoke(1, 2); !errors.Is(err, db.ErrNotIssued) {
		t.Errorf("two, of which one was never issued: %v", err)
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || s.Revoked {
		t.Errorf("half of it was done: %+v, %v", s, err)
	}
	if err := revoke(1); err != nil {
		t.Error(err)
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || !s.Revoked {
		t.Errorf("nothing was done: %+v, %v", s, err)
	}
}

// The limit is looked at when a transaction commits: a plan hears of it, too.
func TestTryHearsOfTheLimit(t *testing.T) {
	dsn, store := newMaster(t)
	anna, _, _ := staff(t, dsn, store)
	ctx := t.Context()
	setLimit(t, store, 0)
	mustIssue(t, store, "01")
	for _, apply := range []bool{false, true} {
		err := anna.Try(ctx, apply, func(s *masterdb.DB) error {
			_, _, err := s.Hold(ctx, 1, db.Serial{1}, act)
			return err
		})
		wantError(t, "a hold over the limit", "at most 0 certificates an hour", err)
		if refusal := (*db.Refusal)(nil); !errors.As(err, &refusal) || refusal.Hint == "" {
			t.Errorf("apply %t: %v is no refusal with a hint", apply, err)
		}
	}
}

// What reaches beyond a transaction refuses to be tried, and nothing else does: a body
// that does such a thing without asking refuse_trying is found here.
func TestTryReachesNothingOutside(t *testing.T) {
	dsn, store := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	rows, err := conn.Query(t.Context(), `select proname::text from pg_proc where pronamespace in ('public'::regnamespace, 'ocsp_internal'::regnamespace)
		and prosrc ~* 'pg_(drop|create|copy)_\w*slot|pg_replication_slot_advance|pg_terminate_backend|pg_cancel_backend|alter (role|user|system)|pg_logical_emit|pg_reload_conf|dblink|copy .* program|pg_notify|nextval'
		order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]string{
		"responder_login_open": "responder_login_open('x', true, '', '')", "responder_disconnect": "responder_disconnect('x')", "responder_slots_drop": "responder_slots_drop('x')",
	} {
		if !slices.Contains(found, name) {
			t.Errorf("%s is not among what reaches outside: %q", name, found)
		}
		_, err := conn.Exec(t.Context(), "begin; set local ocsp.trying = 'on'; select "+call)
		wantError(t, name, "cannot be tried", err)
		if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range found {
		var asks bool
		err := conn.QueryRow(t.Context(), `select bool_and(prosrc ~ 'refuse_trying') from pg_proc where proname = $1`, name).Scan(&asks)
		if err != nil || !asks {
			t.Errorf("%s reaches beyond its transaction, and does not ask refuse_trying first (%v)", name, err)
		}
	}
	err = store.Try(t.Context(), false, func(s *masterdb.DB) error {
		_, err := s.CutSite(t.Context(), "x")
		return err
	})
	wantError(t, "through Try", "cannot be tried", err)
}

// A plan keeps nobody from the head for long.
func TestTryTakesAThousandRowsAtMost(t *testing.T) {
	_, store := newMaster(t)
	batch := make([]masterdb.Row, 1001)
	for i := range batch {
		batch[i] = masterdb.Row{Serial: db.Serial{1, byte(i >> 8), byte(i)}, Status: db.Status{NotAfter: year, Reason: db.ReasonNone}}
	}
	for n, want := range map[int]string{1000: "<nil>", 1001: "1,000 at most are tried"} {
		err := store.Try(t.Context(), false, func(s *masterdb.DB) error {
			_, _, _, err := s.ImportBatch(t.Context(), 1, batch[:n], masterdb.ImportSource{}, act)
			return err
		})
		if want == "<nil>" && err != nil {
			t.Errorf("%d rows: %v", n, err)
		} else if want != "<nil>" {
			wantError(t, fmt.Sprint(n), want, err)
		}
	}
	// Nor does a plan count against the limit by itself.
	if err := store.TryLimit(t.Context(), 100); err != nil {
		t.Error(err)
	}
	err := store.TryLimit(t.Context(), 103)
	if over := (*masterdb.OverLimit)(nil); !errors.As(err, &over) || over.Missing != 3 {
		t.Errorf("103 of 100: %v", err)
	}
	if limit, err := store.Limit(t.Context()); err != nil || limit.All != 0 {
		t.Errorf("used %+v, %v", limit, err)
	}
}

// A person is not left waiting, and hears whom for.
func TestTryNamesWhoHoldsTheHead(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the end of a lock")
	}
	dsn, store := newMaster(t)
	mustIssue(t, store, "01")
	holder := dbtest.Connect(t, dsn)
	if _, err := holder.Exec(t.Context(), `set application_name = 'forgotten psql'; begin; select certificate_issue(1, '\x02', '2099-01-01Z', '', ''); set constraints all immediate`); err != nil {
		t.Fatal(err)
	}
	err := open(t, dbtest.As(dsn, "ocsp_operator")).Try(t.Context(), true, func(store *masterdb.DB) error {
		_, _, err := store.Revoke(t.Context(), 1, db.Serial{1}, db.ReasonKeyCompromise, time.Time{}, act)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "forgotten psql") {
		t.Errorf("while another has the head: %v", err)
	}
	if _, err := holder.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	assertConsistent(t, dsn)
}
