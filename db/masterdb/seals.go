package masterdb

import (
	"context"
	"fmt"

	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// SegmentNotes calls each with the seals that are kept here, the newest first, until it returns
// false.
func (s *DB) SegmentNotes(ctx context.Context, each func(note []byte) (more bool)) error {
	rows, err := s.pool.Query(ctx, "select note from segment order by epoch desc, number desc")
	if err != nil {
		return fmt.Errorf("reading the seals: %w", pg.Plain(err))
	}
	defer rows.Close()
	for rows.Next() {
		note, err := pgx.RowTo[[]byte](rows)
		if err != nil {
			return fmt.Errorf("reading the seals: %w", pg.Plain(err))
		}
		if !each(note) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the seals: %w", pg.Plain(err))
	}
	return nil
}
