package db

import (
	"context"
	"encoding/binary"
	"fmt"
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
const correctionCanonical = "correction_canonical(t.issuer_id, t.serial, t.revoked_at, t.corrected_at)"

// AppendCorrection appends the canonical bytes of a correction: issuer int32,
// serial length int16, serial, revoked_at int64, corrected_at int64, big endian.
func AppendCorrection(dst []byte, c Correction) []byte {
	dst = AppendCertificateKey(dst, c.IssuerID, c.Serial)
	dst = binary.BigEndian.AppendUint64(dst, uint64(pgMicros(c.RevokedAt)))
	return binary.BigEndian.AppendUint64(dst, uint64(pgMicros(c.CorrectedAt)))
}

// ParseCorrection reads what AppendCorrection wrote. The serial is a part of b.
func ParseCorrection(b []byte) (Correction, error) {
	if len(b) < 16 {
		return Correction{}, fmt.Errorf("correction of %d octets is cut short", len(b))
	}
	key, times := b[:len(b)-16], b[len(b)-16:]
	issuer, serial, err := ParseCertificateKey(key)
	if err != nil {
		return Correction{}, err
	}
	return Correction{
		IssuerID: issuer, Serial: serial,
		RevokedAt:   fromPGMicros(int64(binary.BigEndian.Uint64(times))),
		CorrectedAt: fromPGMicros(int64(binary.BigEndian.Uint64(times[8:]))),
	}, nil
}

// Corrections hands all corrections to each, by certificate and time.
func (s *Store) Corrections(ctx context.Context, each func(Correction) error) error {
	return readCorrections(ctx, s.pool, each)
}

// Corrections hands all corrections of the snapshot to each, by certificate and time.
func (l *Look) Corrections(ctx context.Context, each func(Correction) error) error {
	l.alive()
	return readCorrections(ctx, l.tx, each)
}

func readCorrections(ctx context.Context, q querier, each func(Correction) error) error {
	rows, err := q.Query(ctx, "select issuer_id, serial, revoked_at, corrected_at from correction order by 1, 2, 3, 4")
	if err != nil {
		return fmt.Errorf("reading corrections: %w", plain(err))
	}
	var c Correction
	var serial []byte
	_, err = pgx.ForEachRow(rows, []any{&c.IssuerID, &serial, &c.RevokedAt, &c.CorrectedAt}, func() error {
		c.Serial, c.RevokedAt, c.CorrectedAt = serial, c.RevokedAt.UTC(), c.CorrectedAt.UTC()
		return each(c)
	})
	if err != nil {
		return fmt.Errorf("reading corrections: %w", plain(err))
	}
	return nil
}
