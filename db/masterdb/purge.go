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

// PurgeBatch is how many certificates are deleted in one transaction: an urgent revocation waits
// for one batch at most.
const PurgeBatch = 5000

// PurgedBefore returns the time up to which an issuer was purged; zero: never.
func (s *DB) PurgedBefore(ctx context.Context, issuer db.IssuerID) (time.Time, error) {
	var before time.Time
	err := s.pool.QueryRow(ctx, "select before from purge where issuer_id = $1", issuer).Scan(&before)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("reading up to where issuer %d was purged: %w", issuer, pg.Plain(err))
	}
	return before.UTC(), nil
}

// Purgeable counts the certificates of an issuer that ended before a time, except those of
// responders, which stay.
func (s *DB) Purgeable(ctx context.Context, issuer db.IssuerID, before time.Time) (int64, error) {
	return pg.Value[int64](ctx, s.pool, fmt.Sprintf("counting what issuer %d may lose", issuer), "select count(*) from purgeable($1, $2)", issuer, before)
}

// RequestPurge asks for the agreement of a second person that certificates of an issuer which
// ended before a time may be deleted. After the approval, the answer for the issuer's absent
// serials is unauthorized, and Purge deletes. The time is at least two days before the head's
// as_of, and after the last one. An issuer with the policy revoked for serials never issued is
// refused.
func (s *DB) RequestPurge(ctx context.Context, issuer db.IssuerID, before time.Time, act db.Act) (id int64, expires time.Time, err error) {
	return s.request(ctx, ApprovalPurge, map[string]any{"issuer": issuer, "ended_before": before.UTC()}, act)
}

// Purge deletes what the approved time allows, batch by batch, each with its audit entry, and
// returns how many. After an interruption it is simply run again.
func (s *DB) Purge(ctx context.Context, issuer db.IssuerID, act db.Act) (int64, error) {
	var all int64
	for {
		var n int64
		if err := s.pool.QueryRow(ctx, "select purge_batch($1, $2, $3, $4)", issuer, PurgeBatch, act.Why, act.User).Scan(&n); err != nil {
			return all, fmt.Errorf("purging issuer %d, after %d certificates: %w", issuer, all, pg.Plain(err))
		}
		if all += n; n == 0 {
			return all, nil
		}
	}
}
