package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// pageRows is how many rows one query of a long reading takes. Each is a
// transaction of its own: the master must have no long snapshots.
const pageRows = 10_000

// MasterRow is one certificate as the master has it.
type MasterRow struct {
	Serial    Serial
	Status    Status
	Responder bool // a site's own certificate, which the CA's database may not have
}

// EachCertificate calls do with each certificate of an issuer, by serial. Rows
// that change meanwhile may be seen before or after their change.
func (s *Store) EachCertificate(ctx context.Context, issuer IssuerID, do func(MasterRow) error) error {
	last := []byte{}
	for {
		// The page is cut before the join: the table is read in the order of its key.
		rows, err := s.pool.Query(ctx, `select c.serial, c.not_after, c.revoked_at, c.reason,
				exists (select from responder_certificate r where r.issuer_id = $1 and r.serial = c.serial)
					or exists (select from responder_withheld r where r.issuer_id = $1 and r.serial = c.serial)
			from (select * from certificate where issuer_id = $1 and serial > $2 order by serial limit $3) c order by c.serial`, issuer, last, pageRows)
		if err != nil {
			return fmt.Errorf("reading the certificates of issuer %d: %w", issuer, plain(err))
		}
		page, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (MasterRow, error) {
			var m MasterRow
			var revokedAt *time.Time
			var reason *int16
			err := row.Scan((*[]byte)(&m.Serial), &m.Status.NotAfter, &revokedAt, &reason, &m.Responder)
			m.Status.NotAfter, m.Status.Reason = m.Status.NotAfter.UTC(), reasonOf(reason)
			if revokedAt != nil {
				m.Status.RevokedAt = revokedAt.UTC()
			}
			return m, err
		})
		if err != nil {
			return fmt.Errorf("reading the certificates of issuer %d: %w", issuer, plain(err))
		}
		for _, m := range page {
			if err := do(m); err != nil {
				return err
			}
		}
		if len(page) < pageRows {
			return nil
		}
		last = page[len(page)-1].Serial
	}
}
