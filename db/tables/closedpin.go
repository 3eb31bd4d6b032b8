package tables

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// ClosedPins reads the TLS keys of suspended and revoked sites, by their pins: no relay gives them
// access, whatever its configuration says.
func (s *DB) ClosedPins(ctx context.Context) (map[[32]byte]bool, error) {
	closed := map[[32]byte]bool{}
	err := ReadClosedPins(ctx, s.pool, func(pin [32]byte) { closed[pin] = true })
	return closed, err
}

func ReadClosedPins(ctx context.Context, q pg.Querier, each func(pin [32]byte)) error {
	rows, err := q.Query(ctx, "select pin from closed_pin")
	if err != nil {
		return fmt.Errorf("reading the closed TLS keys: %w", pg.Plain(err))
	}
	var pin []byte
	_, err = pgx.ForEachRow(rows, []any{&pin}, func() error {
		if len(pin) != 32 {
			return fmt.Errorf("pin of %d octets: %w", len(pin), db.ErrCanonical)
		}
		each([32]byte(pin))
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the closed TLS keys: %w", pg.Plain(err))
	}
	return nil
}
