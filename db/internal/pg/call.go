package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Value is the one value of a statement of one row; doing says in an error what was done.
func Value[T any](ctx context.Context, q Querier, doing, sql string, args ...any) (T, error) {
	var value T
	if err := q.QueryRow(ctx, sql, args...).Scan(&value); err != nil {
		var none T
		return none, fmt.Errorf("%s: %w", doing, Plain(err))
	}
	return value, nil
}

// List is the rows of a statement, each read by scan.
func List[T any](ctx context.Context, q Querier, doing string, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	var list []T
	if err == nil {
		list, err = pgx.CollectRows(rows, scan)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, Plain(err))
	}
	return list, nil
}

// Do runs a statement without an answer.
func (s *Pool) Do(ctx context.Context, doing, sql string, args ...any) error {
	if _, err := s.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", doing, Plain(err))
	}
	return nil
}
