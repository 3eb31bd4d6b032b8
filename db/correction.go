package db

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Correction says that a permanent revocation was wrong and was taken back: the
// only thing that lets a copy believe that it is gone. It is replicated like the
// rows, and never changes.
type Correction struct {
	IssuerID    IssuerID
	Serial      Serial
	RevokedAt   time.Time // the revocation that was taken back, whole seconds
	CorrectedAt time.Time
	// Note is the second person's signed word (feed.CorrectionNote): without one that
	// verifies, a copy takes nothing back.
	Note []byte
}

// correctionCanonical is the canonical bytes of row t of correction, in SQL.
const correctionCanonical = "correction_canonical(t.issuer_id, t.serial, t.revoked_at, t.corrected_at, t.note)"

// correctionColumns are those that are replicated; all of them are the key.
const correctionColumns = "issuer_id, serial, revoked_at, corrected_at, note"

// AppendCorrection appends the canonical bytes of a correction: issuer int32, serial
// length int16, serial, revoked_at int64, corrected_at int64, note length int32, note;
// big endian.
func AppendCorrection(dst []byte, c Correction) []byte {
	dst = AppendCertificateKey(dst, c.IssuerID, c.Serial)
	dst = binary.BigEndian.AppendUint64(dst, uint64(pgMicros(c.RevokedAt)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(pgMicros(c.CorrectedAt)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(c.Note)))
	return append(dst, c.Note...)
}

// ParseCorrection reads what AppendCorrection wrote. Serial and note are parts of b.
func ParseCorrection(b []byte) (Correction, error) {
	r := &canonicalReader{rest: b}
	c := Correction{IssuerID: IssuerID(r.int32())}
	c.Serial = r.take(int(binary.BigEndian.Uint16(r.take(2))))
	c.RevokedAt = fromPGMicros(int64(binary.BigEndian.Uint64(r.take(8))))
	c.CorrectedAt = fromPGMicros(int64(binary.BigEndian.Uint64(r.take(8))))
	c.Note = r.lp()
	if r.bad || len(r.rest) > 0 || len(c.Serial) == 0 || len(c.Serial) > MaxSerialLen {
		return Correction{}, fmt.Errorf("correction of %d octets: %w", len(b), errCanonical)
	}
	return c, nil
}

// Corrections hands all corrections to each, by certificate and time.
func (s *Common) Corrections(ctx context.Context, each func(Correction) error) error {
	return readCorrections(ctx, s.pool, each)
}

// Corrections hands all corrections of the snapshot to each, by certificate and time.
func (l *ReadTx) Corrections(ctx context.Context, each func(Correction) error) error {
	l.alive()
	return readCorrections(ctx, l.tx, each)
}

func readCorrections(ctx context.Context, q querier, each func(Correction) error) error {
	rows, err := q.Query(ctx, "select "+correctionColumns+" from correction order by 1, 2, 3, 4, 5")
	if err != nil {
		return fmt.Errorf("reading corrections: %w", plain(err))
	}
	var c Correction
	var serial []byte
	_, err = pgx.ForEachRow(rows, []any{&c.IssuerID, &serial, &c.RevokedAt, &c.CorrectedAt, &c.Note}, func() error {
		c.Serial, c.RevokedAt, c.CorrectedAt = serial, c.RevokedAt.UTC(), c.CorrectedAt.UTC()
		return each(c)
	})
	if err != nil {
		return fmt.Errorf("reading corrections: %w", plain(err))
	}
	return nil
}

// resignedAtOnce bounds the corrections of one transaction, as a request does.
const resignedAtOnce = 100

// ResignCorrections adds corrections beside those of the same revocations, signed by
// another key. They take nothing else back.
func (s *Master) ResignCorrections(ctx context.Context, list []Correction, act Act) error {
	for some := range slices.Chunk(list, resignedAtOnce) {
		issuers, serials, notes := make([]int32, len(some)), make([][]byte, len(some)), make([][]byte, len(some))
		revoked, corrected := make([]time.Time, len(some)), make([]time.Time, len(some))
		for i, c := range some {
			issuers[i], serials[i], revoked[i], corrected[i], notes[i] = int32(c.IssuerID), c.Serial, c.RevokedAt, c.CorrectedAt, c.Note
		}
		if _, err := s.pool.Exec(ctx, "select correction_resign($1, $2, $3, $4, $5, $6, $7)", issuers, serials, revoked, corrected, notes, act.Why, act.User); err != nil {
			return fmt.Errorf("storing re-signed corrections: %w", plain(err))
		}
	}
	return nil
}
