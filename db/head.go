package db

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoHead says that the database has no head row: a site that was never
// seeded, or a master that was never initialised.
var ErrNoHead = errors.New("the database has no head row")

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

const selectHead = `select epoch, position, as_of, certificate_count, certificate_digest::text, issuer_count, issuer_digest::text,
  responder_certificate_count, responder_certificate_digest::text, correction_count, correction_digest::text, closed_pin_count, closed_pin_digest::text, audit_count, audit_hash from `

// Head reads the head row, or ErrNoHead.
func (s *Common) Head(ctx context.Context) (Head, error) { return readHead(ctx, s.pool) }

func readHead(ctx context.Context, q querier) (Head, error) { return readHeadOf(ctx, q, "feed_head") }

// readHeadOf reads the head row from table, which has feed_head's columns.
func readHeadOf(ctx context.Context, q querier, table string) (Head, error) {
	return scanHead(q.QueryRow(ctx, selectHead+table))
}

func scanHead(row pgx.Row) (Head, error) {
	var h Head
	var digests [5]string
	err := row.Scan(&h.Epoch, &h.Position, &h.AsOf, &h.Certificates.Count, &digests[0],
		&h.Issuers.Count, &digests[1], &h.ResponderCertificates.Count, &digests[2],
		&h.Corrections.Count, &digests[3], &h.ClosedPins.Count, &digests[4], &h.AuditCount, &h.AuditHash)
	if errors.Is(err, pgx.ErrNoRows) {
		return Head{}, ErrNoHead
	}
	if err != nil {
		return Head{}, fmt.Errorf("reading the head: %w", plain(err))
	}
	for i, t := range []*Tally{&h.Certificates, &h.Issuers, &h.ResponderCertificates, &h.Corrections, &h.ClosedPins} {
		n, err := strconv.ParseUint(digests[i], 10, 64)
		if err != nil {
			return Head{}, fmt.Errorf("reading the head: %w", err)
		}
		t.Digest = Digest(n)
	}
	h.AsOf = h.AsOf.UTC()
	return h, nil
}

// PositionAt returns the position of the last change that the master had
// committed at a time of its own clock; 0 when there was none.
func (s *Master) PositionAt(ctx context.Context, at time.Time) (int64, error) {
	var position int64
	err := s.pool.QueryRow(ctx, "select coalesce((select last from change_tx where at <= $1 order by last desc limit 1), 0)", at).Scan(&position)
	if err != nil {
		return 0, fmt.Errorf("reading the position at %s: %w", at.UTC().Format(time.RFC3339), plain(err))
	}
	return position, nil
}

// InitHead makes the head row of a new master. The epoch is the time in seconds
// since 1970, so that a later one is always greater.
func (s *Master) InitHead(ctx context.Context, now time.Time) error {
	if _, err := s.pool.Exec(ctx, "select head_init($1)", now.Unix()); err != nil {
		return fmt.Errorf("making the head: %w", plain(err))
	}
	return nil
}

// Heartbeat confirms the master's clock: nothing newer than the head exists now.
// elapsed is the caller's monotonic time since its last confirmation, or
// negative at its first. capped says that the master's clock ran ahead of
// elapsed by more than 10 s and was not believed.
func (s *Publisher) Heartbeat(ctx context.Context, elapsed time.Duration) (asOf time.Time, capped bool, err error) {
	var since *time.Duration
	if elapsed >= 0 {
		since = &elapsed
	}
	err = s.pool.QueryRow(ctx, "select as_of, capped from heartbeat($1)", since).Scan(&asOf, &capped)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("confirming the head: %w", plain(err))
	}
	return asOf.UTC(), capped, nil
}

// Blockers names what holds the head row's lock, for the alarm after a missed
// heartbeat: pid, user, application and state of each session that blocks one
// waiting for feed_head, or that has been idle in a transaction for over 5 s.
func (s *Publisher) Blockers(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `
		select format('pid %s user %s application %s %s since %s', b.pid, b.usename, coalesce(nullif(b.application_name, ''), '-'), b.state, b.xact_start)
		from pg_stat_activity b
		where b.pid in (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w where w.wait_event_type = 'Lock')
		   or (b.datname = current_database() and b.state like 'idle in transaction%' and b.xact_start < clock_timestamp() - interval '5 s')`)
	if err != nil {
		return nil, fmt.Errorf("asking who blocks the head: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Count is a table's tally by a full recount beside what the head says.
type Count struct {
	Table     string
	Counted   Tally
	Head      Tally
	Identical bool
}

// Differences tells the tables whose rows are not those that the head counts; empty: none.
func Differences(counts []Count) string {
	var wrong []string
	for _, c := range counts {
		if !c.Identical {
			wrong = append(wrong, fmt.Sprintf("%s has %d rows with digest %016x, the head says %d with %016x",
				c.Table, c.Counted.Count, uint64(c.Counted.Digest), c.Head.Count, uint64(c.Head.Digest)))
		}
	}
	return strings.Join(wrong, "; ")
}

// lockReaders keeps TRUNCATE and table swaps away while a snapshot is read: they
// are not MVCC-safe. Always this order, feed_head first; LOCK takes no snapshot.
const lockReaders = "lock table feed_head, issuer, certificate, responder_certificate, correction, closed_pin in access share mode"

// Verify recounts the replicated tables in one snapshot and compares them with
// the head (1 M rows: about a second).
func (s *Common) Verify(ctx context.Context) ([]Count, error) {
	var counts []Count
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockReaders); err != nil {
			return err
		}
		var err error
		counts, err = recount(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("verifying the database: %w", plain(err))
	}
	return counts, nil
}

func recount(ctx context.Context, q querier) ([]Count, error) {
	h, err := readHead(ctx, q)
	if err != nil {
		return nil, err
	}
	var counts []Count
	for _, t := range FeedTables {
		c := Count{Table: t.Name, Head: *t.Tally(&h)}
		if c.Counted, err = tally(ctx, q, t.Name, t.rows); err != nil {
			return nil, err
		}
		c.Identical = c.Counted == c.Head
		counts = append(counts, c)
	}
	return counts, nil
}

// certificateCanonical is the canonical bytes of row t of certificate, in SQL.
const certificateCanonical = "certificate_canonical(t.issuer_id, t.serial, t.not_after, t.revoked_at, t.reason)"

// tally recounts a table by the canonical bytes of its rows, called t.
func tally(ctx context.Context, q querier, table, canonical string) (Tally, error) {
	var t Tally
	var digest string
	err := q.QueryRow(ctx, fmt.Sprintf("select count(*), mod64(coalesce(sum(row_digest(%s)), 0))::text from %s t", canonical, table)).Scan(&t.Count, &digest)
	if err != nil {
		return Tally{}, fmt.Errorf("recounting %s: %w", table, err)
	}
	n, err := strconv.ParseUint(digest, 10, 64)
	if err != nil {
		return Tally{}, fmt.Errorf("recounting %s: %w", table, err)
	}
	t.Digest = Digest(n)
	return t, nil
}
