package db

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Correction says that a permanent revocation was wrong and was taken back. Only a correction lets
// a copy accept that the revocation is gone. It is replicated like the rows, and never changes.
type Correction struct {
	IssuerID    IssuerID
	Serial      Serial
	RevokedAt   time.Time // the revocation that was taken back, whole seconds
	CorrectedAt time.Time
	// Note is the second person's signed statement (feed.CorrectionNote): without a valid one a
	// copy takes nothing back.
	Note []byte
}

// correctionCanonical is the canonical bytes of row t of correction, in SQL.
const correctionCanonical = "correction_canonical(t.issuer_id, t.serial, t.revoked_at, t.corrected_at, t.note)"

// AppendCorrection appends the canonical bytes of a correction: issuer int32, serial
// length int16, serial, revoked_at int64, corrected_at int64, note length int32, note;
// big endian.
func AppendCorrection(dst []byte, c Correction) []byte {
	dst = AppendCertificateKey(dst, c.IssuerID, c.Serial)
	dst = binary.BigEndian.AppendUint64(dst, uint64(PgMicros(c.RevokedAt)))
	dst = binary.BigEndian.AppendUint64(dst, uint64(PgMicros(c.CorrectedAt)))
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
		return Correction{}, fmt.Errorf("correction of %d octets: %w", len(b), ErrCanonical)
	}
	return c, nil
}

// Wrong is the mistake that a correction names.
type Wrong string

// The mistakes that a correction corrects.
const (
	WrongRevoked  Wrong = "revoked"   // they are good, and were revoked for ever
	WrongIssued   Wrong = "issued"    // they were never issued, and were registered or imported
	WrongNotAfter Wrong = "not_after" // they end at another time
)

// SignedCorrection is the second person's signed statement on one certificate of a correction
// (feed.CorrectionNote).
type SignedCorrection struct {
	Serial Serial
	Note   []byte
}

// Taken is a certificate that a correction names, as it was when the request was filed: if it
// differs at the approval, nothing is done.
type Taken struct {
	Serial    Serial
	Revoked   bool
	RevokedAt time.Time
	Reason    Reason
	NotAfter  time.Time
}

// Status returns the status at that time.
func (t Taken) Status() Status {
	return Status{Revoked: t.Revoked, RevokedAt: t.RevokedAt, Reason: t.Reason, NotAfter: t.NotAfter}
}
