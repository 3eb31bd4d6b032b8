package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// CRLEntry is one revoked certificate as a CRL names it.
type CRLEntry struct {
	Serial Serial
	Status Status // NotAfter, RevokedAt, Reason
}

// CRLRows is what a CRL of an issuer must say, from one snapshot of the master.
type CRLRows struct {
	Position int64     // of the head that the rows were read at
	Clock    time.Time // the master's
	Entries  []CRLEntry
}

// NextCRL takes the number of the next CRL of an issuer (RFC 5280 section 5.2.3).
// One that is never published leaves a gap, which is allowed.
func (s *Store) NextCRL(ctx context.Context, issuer IssuerID) (int64, error) {
	var number int64
	if err := s.pool.QueryRow(ctx, "select crl_next($1)", issuer).Scan(&number); err != nil {
		return 0, fmt.Errorf("taking the number of a CRL: %w", plain(err))
	}
	return number, nil
}

// CRLRows reads the revoked certificates of an issuer that had not ended at since:
// those of the sites' responders alone, or all of them.
func (s *Store) CRLRows(ctx context.Context, issuer IssuerID, full bool, since time.Time) (CRLRows, error) {
	var r CRLRows
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "select position, clock_timestamp() from feed_head").Scan(&r.Position, &r.Clock); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select c.serial, c.not_after, c.revoked_at, c.reason from certificate c
			where c.issuer_id = $1 and c.revoked_at is not null and c.not_after >= $2 and ($3
				or exists (select from responder_certificate r where (r.issuer_id, r.serial) = (c.issuer_id, c.serial))
				or exists (select from responder_planned p where (p.issuer_id, p.serial) = (c.issuer_id, c.serial)))
			order by c.serial`, issuer, since, full)
		if err != nil {
			return err
		}
		r.Entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (CRLEntry, error) {
			var e CRLEntry
			var reason *int16
			err := row.Scan((*[]byte)(&e.Serial), &e.Status.NotAfter, &e.Status.RevokedAt, &reason)
			e.Status.NotAfter, e.Status.RevokedAt, e.Status.Reason = e.Status.NotAfter.UTC(), e.Status.RevokedAt.UTC(), reasonOf(reason)
			return e, err
		})
		return err
	})
	if err != nil {
		return CRLRows{}, fmt.Errorf("reading what a CRL must say: %w", plain(err))
	}
	r.Clock = r.Clock.UTC()
	return r, nil
}

// PutCRL publishes a CRL: it travels to every site with the issuer's row. One that
// might take an entry of the published one back is refused.
func (s *Store) PutCRL(ctx context.Context, issuer IssuerID, number, position int64, der []byte, entries int, act Act) error {
	_, err := s.pool.Exec(ctx, "select crl_put($1, $2, $3, $4, $5, $6, $7)", issuer, number, position, der, entries, act.Why, act.User)
	if err != nil {
		return fmt.Errorf("publishing CRL %d: %w", number, plain(err))
	}
	return nil
}
