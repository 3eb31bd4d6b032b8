package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ClosedPins reads the TLS keys of suspended and revoked sites, by their pins: whom no
// relay lets in, whatever its configuration says.
func (s *Common) ClosedPins(ctx context.Context) (map[[32]byte]bool, error) {
	closed := map[[32]byte]bool{}
	err := readClosedPins(ctx, s.pool, func(pin [32]byte) { closed[pin] = true })
	return closed, err
}

// ClosedPins counts the closed TLS keys of the snapshot.
func (l *ReadTx) ClosedPins(ctx context.Context) (Tally, error) {
	l.alive()
	var t Tally
	err := readClosedPins(ctx, l.tx, func(pin [32]byte) { t.Add(pin[:]) })
	return t, err
}

func readClosedPins(ctx context.Context, q querier, each func(pin [32]byte)) error {
	rows, err := q.Query(ctx, "select pin from closed_pin")
	if err != nil {
		return fmt.Errorf("reading the closed TLS keys: %w", plain(err))
	}
	var pin []byte
	_, err = pgx.ForEachRow(rows, []any{&pin}, func() error {
		if len(pin) != 32 {
			return fmt.Errorf("pin of %d octets: %w", len(pin), errCanonical)
		}
		each([32]byte(pin))
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the closed TLS keys: %w", plain(err))
	}
	return nil
}
