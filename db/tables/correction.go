package tables

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// correctionColumns are the replicated columns; all of them are the key.
const correctionColumns = "issuer_id, serial, revoked_at, corrected_at, note"

// Corrections calls each with all corrections, by certificate and time.
func (s *DB) Corrections(ctx context.Context, each func(db.Correction) error) error {
	return ReadCorrections(ctx, s.pool, each)
}

func ReadCorrections(ctx context.Context, q pg.Querier, each func(db.Correction) error) error {
	rows, err := q.Query(ctx, "select "+correctionColumns+" from correction order by 1, 2, 3, 4, 5")
	if err != nil {
		return fmt.Errorf("reading corrections: %w", pg.Plain(err))
	}
	var c db.Correction
	var serial []byte
	_, err = pgx.ForEachRow(rows, []any{&c.IssuerID, &serial, &c.RevokedAt, &c.CorrectedAt, &c.Note}, func() error {
		c.Serial, c.RevokedAt, c.CorrectedAt = serial, c.RevokedAt.UTC(), c.CorrectedAt.UTC()
		return each(c)
	})
	if err != nil {
		return fmt.Errorf("reading corrections: %w", pg.Plain(err))
	}
	return nil
}
