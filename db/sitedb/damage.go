package sitedb

import (
	"context"
	"errors"

	"ocspfleet/db/tables"
)

// spare runs f on the old copy, which is about to be replaced. Where its pages are
// damaged it says so, and what f did is undone; the seed goes on.
func (s *seed) spare(ctx context.Context, f func() error) (damaged bool, err error) {
	point, err := s.tx.Begin(ctx) // a savepoint
	if err != nil {
		return false, err
	}
	if err = f(); err == nil {
		return false, point.Commit(ctx)
	}
	if undo := point.Rollback(ctx); undo != nil || !tables.Damaged(err) {
		return false, errors.Join(err, undo)
	}
	s.Examples = append(s.Examples, err.Error())
	return true, nil
}
