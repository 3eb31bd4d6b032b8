package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Lost returns those of the batch, permanent revocations that a site knows, that this master
// lacks, or has with another time, and did not correct: the master was restored from a backup.
func (s *DB) Lost(ctx context.Context, issuer db.IssuerID, batch []Row) ([]Row, error) {
	serials, times := make([][]byte, len(batch)), make([]time.Time, len(batch))
	for i, row := range batch {
		serials[i], times[i] = row.Serial, row.Status.RevokedAt.UTC()
	}
	// OFFSET 0 keeps the planner at one index lookup per row.
	rows, err := s.pool.Query(ctx, `select s.place
		from unnest($2::bytea[], $3::timestamptz[]) with ordinality as s(serial, revoked_at, place)
		left join lateral (select c.revoked_at, c.reason from certificate c where c.issuer_id = $1 and c.serial = s.serial offset 0) c on true
		where (c.revoked_at is distinct from s.revoked_at or c.reason = 6)
		and not exists (select from correction k where k.issuer_id = $1 and (k.serial, k.revoked_at) = (s.serial, s.revoked_at))
		order by s.place`, issuer, serials, times)
	if err != nil {
		return nil, fmt.Errorf("looking for lost revocations: %w", pg.Plain(err))
	}
	places, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("looking for lost revocations: %w", pg.Plain(err))
	}
	lost := make([]Row, len(places))
	for i, place := range places {
		lost[i] = batch[place-1]
	}
	return lost, nil
}
