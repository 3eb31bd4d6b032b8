package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/auditchain"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// AuditFilter chooses entries; its zero value chooses all.
type AuditFilter struct {
	Since time.Time // zero: from the first
	Until time.Time // zero: to the last
	Act   string    // an act, or its noun: "cert revoke", "cert"
	User  string    // a database login, or an operating system's user (also before " as ")
	Limit int       // only this many, the newest; 0: all
}

const auditColumns = "n, at, db_role, os_user, act, what::text, why, position, hash"

// AuditEntries calls each with the chosen entries, in the order of the chain, as they come from
// the database: memory does not grow with them.
func (s *DB) AuditEntries(ctx context.Context, f AuditFilter, each func(auditchain.Entry) error) error {
	var limit *int
	if f.Limit > 0 {
		limit = &f.Limit
	}
	rows, err := s.pool.Query(ctx, `select * from (
		select `+auditColumns+` from audit
		where n is not null and ($1::timestamptz is null or at >= $1) and ($2::timestamptz is null or at < $2)
		  and ($3 = '' or act = $3 or starts_with(act, $3 || ' '))
		  and ($4 = '' or db_role = $4 or os_user = $4 or starts_with(os_user, $4 || ' as '))
		order by n desc limit $5) a order by n`, timeOrNull(f.Since), timeOrNull(f.Until), f.Act, f.User, limit)
	if err != nil {
		return fmt.Errorf("reading the audit: %w", pg.Plain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var e auditchain.Entry
		if err := rows.Scan(&e.N, &e.At, &e.DBRole, &e.OSUser, &e.Act, &e.What, &e.Why, &e.Position, &e.Hash); err != nil {
			return fmt.Errorf("reading the audit: %w", err)
		}
		e.At = e.At.UTC()
		if err := each(e); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the audit: %w", pg.Plain(err))
	}
	return nil
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Note writes an audit entry for an act that changed no replicated row. It writes none, and
// returns false, if there is no chain: at a site, and at a master without a head.
func (s *DB) Note(ctx context.Context, name string, what map[string]any, act db.Act) (noted bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		noted, err = tables.Note(ctx, tx, name, what, act)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("writing %q into the audit: %w", name, pg.Plain(err))
	}
	return noted, nil
}

// maxAuditRow bounds one row in the stream: PostgreSQL's own limit of a value.
const maxAuditRow = 1 << 30

// auditRow selects a whole entry as PostgreSQL sends records: it carries nulls, and this program
// builds the canonical bytes, not an SQL function that an attacker could have replaced.
const auditRow = "record_send(row(n, at, db_role, os_user, act, what::text, why, position, hash))"

// VerifyAudit reads the whole chain in one snapshot, computes every hash again and compares the
// end with the head and each mark with its place. progress, if not nil, is called every 100,000
// rows.
func (s *DB) VerifyAudit(ctx context.Context, marks []auditchain.Mark, progress func(rows int64)) (auditchain.Report, error) {
	var report auditchain.Report
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		head, err := tables.ReadHead(ctx, tx)
		if err != nil {
			return err
		}
		c, read := auditchain.New(auditchain.Mark{N: head.AuditCount, Hash: head.AuditHash}, marks), int64(0)
		w := &pg.CopyReader{Limit: maxAuditRow, Row: func(fields [2][]byte) error {
			id, err := pg.CopyInt8(fields[0])
			if err != nil {
				return err
			}
			c.Add(int64(id), fields[1])
			if read++; progress != nil && read%100_000 == 0 {
				progress(read)
			}
			return nil
		}}
		const all = "copy (select id, " + auditRow + " from audit order by n nulls last, id) to stdout (format binary)"
		if _, err := tx.Conn().PgConn().CopyTo(ctx, w, all); err != nil {
			return err
		}
		if err := w.End(); err != nil {
			return err
		}
		report = c.End()
		return nil
	})
	if err != nil {
		return auditchain.Report{}, fmt.Errorf("verifying the audit: %w", pg.Plain(err))
	}
	return report, nil
}
