package db_test

import (
	"errors"
	"testing"
	"time"

	"ocspfleet/db"
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
	err = store.Try(ctx, false, func(s *db.Store) (err error) {
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
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || s.Revoked() {
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
		return store.Try(ctx, true, func(s *db.Store) error {
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
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || s.Revoked() {
		t.Errorf("half of it was done: %+v, %v", s, err)
	}
	if err := revoke(1); err != nil {
		t.Error(err)
	}
	if s, err := store.Certificate(ctx, 1, db.Serial{1}); err != nil || !s.Revoked() {
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
		err := anna.Try(ctx, apply, func(s *db.Store) error {
			_, _, err := s.Hold(ctx, 1, db.Serial{1}, act)
			return err
		})
		wantError(t, "a hold over the limit", "at most 0 certificates an hour", err)
		if refusal := (*db.Refusal)(nil); !errors.As(err, &refusal) || refusal.Hint == "" {
			t.Errorf("apply %t: %v is no refusal with a hint", apply, err)
		}
	}
}
