package publisherdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// ErrNoIssuer says that the database does not have the issuer.
var ErrNoIssuer = errors.New("the issuer is unknown here")

// Asked is the master's status of one serial, with the head of that moment.
type Asked struct {
	Epoch, Position int64
	AsOf            time.Time
	Issued          bool
	Status          db.Status // where Issued
}

// Asked reads one serial of the issuer with that key (Issuer.Key) and the head, in one snapshot:
// it is one statement. It returns ErrNoIssuer if there is no such issuer, or no head.
func (s *DB) Asked(ctx context.Context, key [32]byte, serial db.Serial) (Asked, error) {
	var a Asked
	var notAfter, revokedAt *time.Time
	var reason *int16
	err := s.pool.QueryRow(ctx, `select h.epoch, h.position, h.as_of, c.not_after, c.revoked_at, c.reason
		from feed_head h join issuer i on i.key_hash = $1 left join certificate c on c.issuer_id = i.id and c.serial = $2`, key[:], []byte(serial)).
		Scan(&a.Epoch, &a.Position, &a.AsOf, &notAfter, &revokedAt, &reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return Asked{}, ErrNoIssuer
	}
	if err != nil {
		return Asked{}, fmt.Errorf("reading a serial that a site asked for: %w", pg.Plain(err))
	}
	a.AsOf = a.AsOf.UTC()
	if notAfter == nil {
		return a, nil
	}
	a.Issued, a.Status = true, db.RowStatus(*notAfter, revokedAt, reason)
	return a, nil
}
