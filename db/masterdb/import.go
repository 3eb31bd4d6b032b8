package masterdb

import (
	"context"
	"fmt"
	"math/big"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// Row is one certificate in the source of an import.
type Row struct {
	Serial db.Serial
	Status db.Status // Changed is not used
	NoEnd  bool      // the source does not give the end: NotAfter has no meaning
	Silent bool      // the source proves that it was issued, and does not give its revocation status
	// Version orders the rows of one serial: only those of the greatest count. Zero: none.
	Version int64
}

// Effect is what importing a row does at the master, or why it does nothing: the result of the SQL
// function certificate_effect.
type Effect string

// The effects. An import never takes a revocation back and never changes the end of a certificate,
// unless that was a guess (Part.End) and the true one is later.
const (
	ImportSame      Effect = "same"                     // the master says the same
	ImportNew       Effect = "new"                      // the master does not have it
	ImportRevoke    Effect = "revoke"                   // good at the master, revoked or on hold in the source
	ImportPermanent Effect = "hold_to_permanent"        // on hold at the master, permanently revoked in the source
	ImportReason    Effect = "reason_to_key_compromise" // permanently revoked in both, for keyCompromise only in the source
	ImportKept      Effect = "kept_revoked"             // the source says good (or hold), the master more: the master's status stays
	ImportDetail    Effect = "other_time_or_reason"     // revoked in both, with another time or reason: the master's stay
	ImportOtherEnd  Effect = "other_not_after"          // another end of validity: not the same certificate
	ImportEnd       Effect = "end"                      // the end was a guess: it becomes the source's, which is later
	ImportGuessed   Effect = "guessed_end"              // equal except for the end, which was a guess and is later than the source's: it stays
	ImportNoEnd     Effect = "no_not_after"             // the master does not have it, and the source does not give its end
)

// ImportSource names the source of an import in the audit.
type ImportSource struct {
	Form   string `json:"form"`   // such as "openssl-index"
	File   string `json:"file"`   // base name
	SHA256 string `json:"sha256"` // of the whole file, lower-case hex
	Batch  int64  `json:"batch"`  // place of the batch in the file, from 1; 0: the end of an import of a CRL
	// CRLNumber is stored, so that an older CRL of the shard is refused. Decimal digits.
	CRLNumber string `json:"crl_number,omitempty"`
	CRLShard  string `json:"crl_shard,omitempty"` // which part of the list it is; empty: all
}

// ImportBatch imports rows that need no staging at the master, in one transaction with its audit
// entry: new ones are inserted, good ones and holds become revoked if the source says so, all else
// stays. No serial may occur twice.
func (s *DB) ImportBatch(ctx context.Context, issuer db.IssuerID, batch []Row, source ImportSource, act db.Act) (inserted, revoked, unchanged int64, err error) {
	serials, notAfter, revokedAt, reasons := rowArgs(batch)
	err = s.pool.QueryRow(ctx, "select inserted, revoked, unchanged from certificate_import($1, $2, $3, $4, $5, $6, $7, $8)",
		issuer, serials, notAfter, revokedAt, reasons, source, act.Why, act.User).Scan(&inserted, &revoked, &unchanged)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("importing batch %d of %s: %w", source.Batch, source.File, pg.Plain(err))
	}
	return inserted, revoked, unchanged, nil
}

// CRLNumbers returns the numbers of the newest CRLs of the issuer that were imported, by
// shard; "" is the whole list.
func (s *DB) CRLNumbers(ctx context.Context, issuer db.IssuerID) (map[string]*big.Int, error) {
	rows, err := s.pool.Query(ctx, "select shard, number from certificate_crl_numbers($1)", issuer)
	numbers := map[string]*big.Int{}
	if err == nil {
		var shard, digits string
		_, err = pgx.ForEachRow(rows, []any{&shard, &digits}, func() error {
			number, ok := new(big.Int).SetString(digits, 10)
			if !ok {
				return fmt.Errorf("the audit has the CRL number %q", digits)
			}
			numbers[shard] = number
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the CRLs of issuer %d imported before: %w", issuer, pg.Plain(err))
	}
	return numbers, nil
}

// CRLNumber returns the greatest of CRLNumbers; nil: none.
func (s *DB) CRLNumber(ctx context.Context, issuer db.IssuerID) (*big.Int, error) {
	numbers, err := s.CRLNumbers(ctx, issuer)
	var greatest *big.Int
	for _, number := range numbers {
		if greatest == nil || number.Cmp(greatest) > 0 {
			greatest = number
		}
	}
	return greatest, err
}
