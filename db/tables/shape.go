package tables

import (
	"context"
	"fmt"

	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Shape returns the facts of this database's schema, read by sql (migrations.ShapeSQL) and written
// by line (migrations.FactLine).
func (s *DB) Shape(ctx context.Context, sql string, line func(object, definition string) string) ([]string, error) {
	var all []string
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		results, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
		if err != nil {
			return err
		}
		for _, row := range results[len(results)-1].Rows {
			all = append(all, line(string(row[0]), string(row[1])))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what the schema is made of: %w", pg.Plain(err))
	}
	return all, nil
}
