package db

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
)

// Row is one certificate as the source of an import states it.
type Row struct {
	Serial Serial
	Status Status // Changed is not used; a zero NotAfter: the source does not tell it
	Silent bool   // the source proves that it was issued, and says nothing of its revocation
}

// Effect is what importing a row does to the master, or why it does nothing.
type Effect int

// The effects. An import never takes a revocation back and never changes the
// end of a certificate.
const (
	ImportSame      Effect = iota // the master says the same
	ImportNew                     // the master does not have it
	ImportRevoke                  // good at the master, revoked or on hold in the source
	ImportPermanent               // on hold at the master, revoked for ever in the source
	ImportKept                    // the source says good (or hold), the master more: the master's stays
	ImportDetail                  // revoked in both, with another time or reason: the master's stays
	ImportOtherEnd                // another end of validity: not the same certificate
	ImportNoEnd                   // the master does not have it, and the source does not tell its end
)

// Finding is the effect of one row beside what the master says now.
type Finding struct {
	Effect Effect
	Here   Status // zero when Effect is ImportNew or ImportNoEnd
}

// ImportSource names the source of an import in the audit.
type ImportSource struct {
	Form   string `json:"form"`   // such as "openssl-index"
	File   string `json:"file"`   // base name
	SHA256 string `json:"sha256"` // of the whole file, lower-case hex
	Batch  int64  `json:"batch"`  // place of the batch in the file, from 1; 0: the end of an import of a CRL
	// CRLNumber is remembered, so that an older CRL is refused. Decimal digits.
	CRLNumber string `json:"crl_number,omitempty"`
}

// PlanImport tells for each row what ImportBatch would do now. It only reads.
func (s *Store) PlanImport(ctx context.Context, issuer IssuerID, batch []Row) ([]Finding, error) {
	serials := make([][]byte, len(batch))
	for i, row := range batch {
		serials[i] = row.Serial
	}
	// OFFSET 0 keeps the planner at one index look-up per row: for thousands of
	// rows it would rather read the whole table, for each batch again.
	rows, err := s.pool.Query(ctx, `select s.place, c.not_after, c.revoked_at, c.reason
		from unnest($2::bytea[]) with ordinality as s(serial, place),
		lateral (select * from certificate c where c.issuer_id = $1 and c.serial = s.serial offset 0) c`, issuer, serials)
	if err != nil {
		return nil, fmt.Errorf("comparing %d rows: %w", len(batch), plain(err))
	}
	findings := make([]Finding, len(batch))
	for i := range findings {
		findings[i].Effect = ImportNew
		if batch[i].Status.NotAfter.IsZero() {
			findings[i].Effect = ImportNoEnd
		}
	}
	var (
		place     int64
		here      Status
		revokedAt *time.Time
		reason    *int16
	)
	_, err = pgx.ForEachRow(rows, []any{&place, &here.NotAfter, &revokedAt, &reason}, func() error {
		found := Status{NotAfter: here.NotAfter.UTC(), Reason: reasonOf(reason)}
		if revokedAt != nil {
			found.RevokedAt = revokedAt.UTC()
		}
		findings[place-1] = Finding{Effect: effect(batch[place-1], found), Here: found}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing %d rows: %w", len(batch), plain(err))
	}
	return findings, nil
}

// effect compares what the source says with what the master has.
func effect(row Row, here Status) Effect {
	source := row.Status
	switch {
	case !source.NotAfter.IsZero() && !source.NotAfter.Equal(here.NotAfter):
		return ImportOtherEnd
	case row.Silent:
		return ImportSame
	case !source.Revoked() && !here.Revoked():
		return ImportSame
	case !here.Revoked():
		return ImportRevoke
	case !here.Permanent() && source.Permanent():
		return ImportPermanent
	case !source.Revoked() || here.Permanent() && !source.Permanent():
		return ImportKept
	case !source.RevokedAt.Equal(here.RevokedAt) || source.Reason != here.Reason:
		return ImportDetail
	default:
		return ImportSame
	}
}

// ImportBatch brings rows to the master in one transaction with its audit
// entry: new ones are inserted, good ones and holds become revoked where the
// source says so, all else stays. No serial may stand in it twice.
func (s *Store) ImportBatch(ctx context.Context, issuer IssuerID, batch []Row, source ImportSource, act Act) (inserted, revoked, unchanged int64, err error) {
	serials := make([][]byte, len(batch))
	notAfter := make([]time.Time, len(batch))
	revokedAt := make([]*time.Time, len(batch))
	reasons := make([]*int16, len(batch))
	for i, row := range batch {
		serials[i] = row.Serial
		notAfter[i] = row.Status.NotAfter.UTC().Truncate(time.Second)
		revokedAt[i] = timeArg(row.Status.RevokedAt)
		if row.Status.Revoked() {
			reasons[i] = reasonArg(row.Status.Reason)
		}
	}
	err = s.pool.QueryRow(ctx, "select inserted, revoked, unchanged from certificate_import($1, $2, $3, $4, $5, $6, $7, $8)",
		issuer, serials, notAfter, revokedAt, reasons, source, act.Why, act.User).Scan(&inserted, &revoked, &unchanged)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("importing batch %d of %s: %w", source.Batch, source.File, plain(err))
	}
	return inserted, revoked, unchanged, nil
}

// CRLNumber returns the number of the newest CRL of the issuer that was
// imported; nil: none, or none with a number.
func (s *Store) CRLNumber(ctx context.Context, issuer IssuerID) (*big.Int, error) {
	var digits *string
	if err := s.pool.QueryRow(ctx, "select certificate_crl_number($1)", issuer).Scan(&digits); err != nil {
		return nil, fmt.Errorf("looking for the CRLs of issuer %d imported before: %w", issuer, plain(err))
	}
	if digits == nil {
		return nil, nil
	}
	number, ok := new(big.Int).SetString(*digits, 10)
	if !ok {
		return nil, fmt.Errorf("the audit has the CRL number %q", *digits)
	}
	return number, nil
}
