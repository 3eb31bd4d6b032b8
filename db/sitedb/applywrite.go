package sitedb

import (
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// writeTable queues the statements that write the states into the table: for certificates, which
// are many, one statement for all; for the rest row by row.
func writeTable(t db.FeedTable, write *pg.Batch, states map[string]db.Change) error {
	var many certificateRows
	for key, c := range states {
		if t.Code == db.CertificateTable && !c.Deleted {
			if err := many.add(c.Content); err != nil {
				return err
			}
			continue
		}
		if err := queueRow(t, write, key, c); err != nil {
			return err
		}
	}
	if len(many.issuers) > 0 {
		write.Exec(`insert into `+t.Name+` (issuer_id, serial, not_after, revoked_at, reason)
			select * from unnest($1::int[], $2::bytea[], $3::timestamptz[], $4::timestamptz[], $5::smallint[])
			on conflict (issuer_id, serial) do update set not_after = excluded.not_after, revoked_at = excluded.revoked_at, reason = excluded.reason`,
			many.issuers, many.serials, many.notAfter, many.revokedAt, many.reasons)
	}
	return nil
}

// certificateRows holds rows of certificate, column by column.
type certificateRows struct {
	issuers   []int32
	serials   [][]byte
	notAfter  []time.Time
	revokedAt []*time.Time
	reasons   []*int16
}

func (r *certificateRows) add(content []byte) error {
	issuer, serial, status, err := db.ParseCertificate(content)
	if err != nil {
		return err
	}
	r.issuers, r.serials = append(r.issuers, int32(issuer)), append(r.serials, []byte(serial))
	revokedAt, reason := db.RevocationArg(status)
	r.notAfter, r.revokedAt, r.reasons = append(r.notAfter, status.NotAfter), append(r.revokedAt, revokedAt), append(r.reasons, reason)
	return nil
}
