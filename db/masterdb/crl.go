package masterdb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// CRLEntry is one revoked certificate as a CRL names it.
type CRLEntry struct {
	Serial db.Serial
	Status db.Status // NotAfter, RevokedAt, Reason
}

// CRLRows is the content of a CRL of an issuer, from one snapshot of the master.
type CRLRows struct {
	Position int64     // of the head that the rows were read at
	Clock    time.Time // the master's
	Entries  []CRLEntry
}

// NextCRL takes the numbers of the next CRLs of an issuer and returns the first. They always grow,
// even after the restore of a master's backup, as long as its clock is right: none is below the
// clock's milliseconds since 1970. RFC 5280 section 5.2.3 allows gaps (and 20 octets; these have
// 7).
func (s *Sites) NextCRL(ctx context.Context, issuer db.IssuerID, count int) (int64, error) {
	return pg.Value[int64](ctx, s.pool, "taking the number of a CRL", "select crl_next($1, $2)", issuer, count)
}

// PlannedCRL is a CRL that an offline CA must sign, as the master stores it.
type PlannedCRL struct {
	Number                 int64
	Position               int64 // of the head that its rows were read at
	ThisUpdate, NextUpdate time.Time
	Content                [32]byte // SHA-256 of its content to be
	Entries                int      // number of its entries; only for the audit
}

// PlanCRLs stores the CRLs that an offline CA must sign, all or none. NextCRL gave them their
// numbers.
func (s *Sites) PlanCRLs(ctx context.Context, issuer db.IssuerID, list []PlannedCRL, act db.Act) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, p := range list {
			_, err := tx.Exec(ctx, "select crl_plan($1, $2, $3, $4, $5, $6, $7, $8, $9)",
				issuer, p.Number, p.Position, p.ThisUpdate, p.NextUpdate, p.Content[:], p.Entries, act.Why, act.User)
			if err != nil {
				return fmt.Errorf("CRL %d: %w", p.Number, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("planning CRLs: %w", pg.Plain(err))
	}
	return nil
}

// PlannedCRLs lists what was planned for an issuer and can still be published, by number.
func (s *Sites) PlannedCRLs(ctx context.Context, issuer db.IssuerID) ([]PlannedCRL, error) {
	scan := func(row pgx.CollectableRow) (PlannedCRL, error) {
		var p PlannedCRL
		var content []byte
		err := row.Scan(&p.Number, &p.Position, &p.ThisUpdate, &p.NextUpdate, &content)
		copy(p.Content[:], content)
		p.ThisUpdate, p.NextUpdate = p.ThisUpdate.UTC(), p.NextUpdate.UTC()
		return p, err
	}
	return pg.List(ctx, s.pool, "reading planned CRLs", scan, "select number, position, this_update, next_update, content from crl_planned where issuer_id = $1 order by number", issuer)
}

// CRLRows reads the revoked certificates of an issuer that had not ended at since: only those of
// the sites' responders, or all of them.
func (s *Sites) CRLRows(ctx context.Context, issuer db.IssuerID, full bool, since time.Time) (CRLRows, error) {
	var r CRLRows
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, "select position, clock_timestamp() from feed_head").Scan(&r.Position, &r.Clock); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select c.serial, c.not_after, c.revoked_at, c.reason from certificate c
			where c.issuer_id = $1 and c.revoked_at is not null and c.not_after >= $2 and ($3
				or exists (select from responder_certificate r where (r.issuer_id, r.serial) = (c.issuer_id, c.serial))
				or exists (select from responder_withheld w where (w.issuer_id, w.serial) = (c.issuer_id, c.serial))
				or exists (select from responder_planned p where (p.issuer_id, p.serial) = (c.issuer_id, c.serial)))
			order by c.serial`, issuer, since, full)
		if err != nil {
			return err
		}
		r.Entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (CRLEntry, error) {
			var e CRLEntry
			var reason *int16
			err := row.Scan((*[]byte)(&e.Serial), &e.Status.NotAfter, &e.Status.RevokedAt, &reason)
			e.Status = db.RowStatus(e.Status.NotAfter, &e.Status.RevokedAt, reason)
			return e, err
		})
		return err
	})
	if err != nil {
		return CRLRows{}, fmt.Errorf("reading what a CRL must say: %w", pg.Plain(err))
	}
	r.Clock = r.Clock.UTC()
	return r, nil
}

// PutCRL publishes a CRL: it is replicated to every site with the issuer's row. A CRL that might
// remove an entry of the published one is refused.
func (s *Sites) PutCRL(ctx context.Context, issuer db.IssuerID, number, position int64, der []byte, entries int, act db.Act) error {
	return s.pool.Do(ctx, fmt.Sprintf("publishing CRL %d", number), "select crl_put($1, $2, $3, $4, $5, $6, $7)", issuer, number, position, der, entries, act.Why, act.User)
}
