package tables

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// Kind chooses certificates by their status.
type Kind string

// The kinds. A certificate that expired while revoked has two.
const (
	KindAny     Kind = ""
	KindGood    Kind = "good"    // neither revoked nor expired
	KindRevoked Kind = "revoked" // permanently
	KindHold    Kind = "hold"
	KindExpired Kind = "expired"
)

// Choice says which certificates to list. A field with the zero value does not restrict the list.
type Choice struct {
	Issuer  db.IssuerID
	Kind    Kind
	Since   time.Time // revoked or put on hold then or later
	Current bool      // not expired
	Limit   int64
}

// List calls each with the chosen certificates, by issuer and serial, as they come from the
// database: a list of millions needs no memory. The serial is valid during the call.
func (s *DB) List(ctx context.Context, choice Choice, each func(db.IssuerID, db.Serial, db.Status) error) error {
	sql := "select issuer_id, serial, not_after, revoked_at, reason from certificate where true"
	var args []any
	with := func(condition string, arg any) {
		args = append(args, arg)
		sql += fmt.Sprintf(" and "+condition, len(args))
	}
	if choice.Issuer != 0 {
		with("issuer_id = $%d", choice.Issuer)
	}
	if !choice.Since.IsZero() {
		with("revoked_at >= $%d", choice.Since.UTC())
	}
	sql += map[Kind]string{
		KindGood:    " and revoked_at is null and not_after > clock_timestamp()",
		KindRevoked: " and revoked_at is not null and reason is distinct from 6",
		KindHold:    " and reason = 6",
		KindExpired: " and not_after <= clock_timestamp()",
	}[choice.Kind]
	if choice.Current {
		sql += " and not_after > clock_timestamp()"
	}
	sql += " order by issuer_id, serial"
	if choice.Limit > 0 {
		sql += fmt.Sprintf(" limit %d", choice.Limit)
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("listing certificates: %w", pg.Plain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var issuer db.IssuerID
		var serial []byte
		var status db.Status
		var revokedAt *time.Time
		var reason *int16
		if err := rows.Scan(&issuer, &serial, &status.NotAfter, &revokedAt, &reason); err != nil {
			return fmt.Errorf("listing certificates: %w", err)
		}
		if err := each(issuer, serial, db.RowStatus(status.NotAfter, revokedAt, reason)); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("listing certificates: %w", pg.Plain(err))
	}
	return nil
}
