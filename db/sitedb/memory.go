package sitedb

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Remembered is a permanent revocation that once came to this site. The site's triggers keep it
// until a day after the certificate's end, even if its row changes.
type Remembered struct {
	Seq      uint64 // grows with each change of the memory
	IssuerID db.IssuerID
	Serial   db.Serial
	Status   db.Status // NotAfter is the latest that was seen
}

const selectRemembered = "select seq, certificate_canonical(issuer_id, serial, not_after, revoked_at, reason) from site_revoked where seq > $1"

func scanRemembered(row pgx.CollectableRow) (r Remembered, err error) {
	var content []byte
	if err = row.Scan(&r.Seq, &content); err == nil {
		r.IssuerID, r.Serial, r.Status, err = db.ParseCertificate(content)
	}
	return r, err
}

// Remembered calls each with what was remembered after a Seq, in no order. A Delta has only what
// it read.
func (l *ReadTx) Remembered(ctx context.Context, after uint64, each func(Remembered) error) error {
	if l.tx == nil {
		for _, r := range l.remembered {
			if err := each(r); err != nil {
				return err
			}
		}
		return nil
	}
	l.alive()
	rows, err := l.tx.Query(ctx, selectRemembered, int64(after))
	if err != nil {
		return fmt.Errorf("reading what is remembered: %w", pg.Plain(err))
	}
	defer rows.Close()
	for n := 0; rows.Next(); n++ {
		if n%1024 == 0 {
			l.alive()
		}
		r, err := scanRemembered(rows)
		if err == nil {
			err = each(r)
		}
		if err != nil {
			return fmt.Errorf("reading what is remembered: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading what is remembered: %w", pg.Plain(err))
	}
	return nil
}

// RememberedIssuers returns the issuers of the remembered revocations: number, key and name.
func (l *ReadTx) RememberedIssuers(ctx context.Context) ([]db.Issuer, error) {
	l.alive()
	return rememberedIssuers(ctx, l.tx)
}

func rememberedIssuers(ctx context.Context, q pg.Querier) ([]db.Issuer, error) {
	rows, err := q.Query(ctx, "select id, key_hash, name from site_issuer order by id")
	if err != nil {
		return nil, fmt.Errorf("reading what is remembered: %w", pg.Plain(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (db.Issuer, error) {
		var i db.Issuer
		var key []byte
		err := row.Scan(&i.ID, &key, &i.Name)
		copy(i.Key[:], key)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is remembered: %w", pg.Plain(err))
	}
	return list, nil
}

// ForgetEnded deletes what is remembered of certificates that have ended (Ended), and returns how
// many those were.
func (s *DB) ForgetEnded(ctx context.Context, ended time.Time) (int64, error) {
	var gone int64
	if err := s.pool.QueryRow(ctx, "select site_forget($1)", ended).Scan(&gone); err != nil {
		return 0, fmt.Errorf("forgetting revocations of certificates that have ended: %w", pg.Plain(err))
	}
	return gone, nil
}

// Known calls each, by serial, with every permanent revocation of an issuer's unexpired
// certificates that this site has, or has had: of one certificate the latest.
func (s *DB) Known(ctx context.Context, issuer db.IssuerID, each func(db.Serial, db.Status) error) error {
	rows, err := s.pool.Query(ctx, `select distinct on (serial) certificate_canonical($1, serial, not_after, revoked_at, reason) from (
		select serial, not_after, revoked_at, coalesce(reason, -1::int2) as reason from certificate
		where issuer_id = $1 and revoked_at is not null and reason is distinct from $2 and not_after > clock_timestamp()
		union all select serial, not_after, revoked_at, reason from site_revoked where issuer_id = $1 and not_after > clock_timestamp()) k
		order by serial, revoked_at desc, reason in (1, 2, 10) desc, reason desc, not_after desc`, int32(issuer), int16(db.ReasonCertificateHold))
	if err != nil {
		return fmt.Errorf("reading what the site knows: %w", pg.Plain(err))
	}
	var content []byte
	_, err = pgx.ForEachRow(rows, []any{&content}, func() error {
		_, serial, status, err := db.ParseCertificate(content)
		if err != nil {
			return err
		}
		return each(serial, status)
	})
	if err != nil {
		return fmt.Errorf("reading what the site knows: %w", pg.Plain(err))
	}
	return nil
}

// TakenBack counts the remembered revocations that this site's rows have lost, without a
// correction, and names one. Only ocspd decides whether a correction is valid.
func (s *DB) TakenBack(ctx context.Context) (count int64, example string, err error) {
	err = s.pool.QueryRow(ctx, `select count(*), coalesce(min(m.issuer_id || '/' || encode(m.serial, 'hex')), '')
		from site_revoked m left join certificate c using (issuer_id, serial)
		where m.not_after > clock_timestamp() and not coalesce(c.revoked_at = m.revoked_at and c.reason is distinct from $1 and c.not_after >= m.not_after, false)
		and not exists (select from correction k where (k.issuer_id, k.serial, k.revoked_at) = (m.issuer_id, m.serial, m.revoked_at))`,
		int16(db.ReasonCertificateHold)).Scan(&count, &example)
	if err != nil {
		return 0, "", fmt.Errorf("comparing the rows with what is remembered: %w", pg.Plain(err))
	}
	return count, example, nil
}
