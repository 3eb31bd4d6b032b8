package masterdb

import (
	"context"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// resignedAtOnce bounds the corrections of one transaction, as a request does.
const resignedAtOnce = 100

// ResignCorrections adds corrections beside those of the same revocations, signed by another key.
// They take nothing else back.
func (s *DB) ResignCorrections(ctx context.Context, list []db.Correction, act db.Act) error {
	for some := range slices.Chunk(list, resignedAtOnce) {
		issuers, serials, notes := make([]int32, len(some)), make([][]byte, len(some)), make([][]byte, len(some))
		revoked, corrected := make([]time.Time, len(some)), make([]time.Time, len(some))
		for i, c := range some {
			issuers[i], serials[i], revoked[i], corrected[i], notes[i] = int32(c.IssuerID), c.Serial, c.RevokedAt, c.CorrectedAt, c.Note
		}
		if _, err := s.pool.Exec(ctx, "select correction_resign($1, $2, $3, $4, $5, $6, $7)", issuers, serials, revoked, corrected, notes, act.Why, act.User); err != nil {
			return fmt.Errorf("storing re-signed corrections: %w", pg.Plain(err))
		}
	}
	return nil
}
