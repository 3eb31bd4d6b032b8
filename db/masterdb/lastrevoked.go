package masterdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// lastChanges bounds how many changes LastRevocations reads.
const lastChanges = 10000

// LastRevocations returns per issuer the certificate of the last permanent revocation among the
// newest 10,000 changes that were committed at least age ago, if it is still revoked and has not
// ended: every site that follows must know it.
func (s *DB) LastRevocations(ctx context.Context, age time.Duration) (map[db.IssuerID]db.Serial, error) {
	rows, err := s.pool.Query(ctx, `
		select content from change where table_name = 'certificate' and not deleted and xid = any (array(
			select xid from (select xid, last, sum(last - first + 1) over (order by last desc) as n
				from (select first, last, xid from change_tx where at <= clock_timestamp() - $1::interval order by last desc limit $2) t) t where n <= $2))
		order by position desc`, age, lastChanges)
	if err != nil {
		return nil, fmt.Errorf("looking for the last revocations: %w", pg.Plain(err))
	}
	contents, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("looking for the last revocations: %w", pg.Plain(err))
	}
	last := map[db.IssuerID]db.Serial{}
	for _, content := range contents {
		issuer, serial, status, err := db.ParseCertificate(content)
		if err != nil {
			return nil, fmt.Errorf("looking for the last revocations: %w", err)
		}
		unended := func(s db.Status) bool { return s.Permanent() && s.NotAfter.After(time.Now().Add(age)) }
		if last[issuer] != nil || !unended(status) {
			continue
		}
		now, err := s.Certificate(ctx, issuer, serial) // it may be corrected by now
		if err == nil && unended(now) {
			last[issuer] = serial
		}
		if err != nil && !errors.Is(err, db.ErrNotIssued) {
			return nil, err
		}
	}
	return last, nil
}
