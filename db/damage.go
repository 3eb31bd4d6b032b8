package db

import (
	"context"
	"errors"
)

// Damaged says that PostgreSQL found its own pages damaged (XX001, XX002): rows of the
// copy are lost, and will not come back by waiting.
func Damaged(err error) bool { return isCode(err, "XX001", "XX002") }

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
	if undo := point.Rollback(ctx); undo != nil || !Damaged(err) {
		return false, errors.Join(err, undo)
	}
	s.Examples = append(s.Examples, err.Error())
	return true, nil
}
