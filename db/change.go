package db

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// Digest is the sum mod 2^64 of the first 8 octets (big endian) of SHA-256 over
// each row's canonical bytes. Adding and removing rows in any order is
// arithmetic: digest += RowDigest(new); digest -= RowDigest(old). It finds
// accidents, never an adversary.
type Digest uint64

// RowDigest is one row's share of a Digest.
func RowDigest(canonical []byte) Digest {
	sum := sha256.Sum256(canonical)
	return Digest(binary.BigEndian.Uint64(sum[:8]))
}

// Tally is the number of rows of a table and their digest.
type Tally struct {
	Count  int64
	Digest Digest
}

// Add adds a row to the tally.
func (t *Tally) Add(canonical []byte) { t.Count++; t.Digest += RowDigest(canonical) }

// Remove removes a row from the tally.
func (t *Tally) Remove(canonical []byte) { t.Count--; t.Digest -= RowDigest(canonical) }

// Head is the one row that counts every change of a replicated table: any snapshot of any replica
// carries in it the tallies that it must have.
type Head struct {
	Epoch                 int64 // number of this history; a newly set up master has another
	Position              int64 // of the last change; dense and in commit order
	AsOf                  time.Time
	Certificates          Tally
	Issuers               Tally
	ResponderCertificates Tally
	Corrections           Tally
	ClosedPins            Tally
	AuditCount            int64
	AuditHash             []byte
}

// NullTime stands for null in the canonical encoding of times, which is microseconds since
// 2000-01-01 UTC, as PostgreSQL sends them. It is the smallest int64: the revoked_at of a
// certificate that is not revoked, and nothing else.
const NullTime = math.MinInt64

// pgEpochUnix is 2000-01-01 UTC in seconds since 1970.
const pgEpochUnix = 946684800

func PgMicros(t time.Time) int64 {
	return (t.Unix()-pgEpochUnix)*1_000_000 + int64(t.Nanosecond())/1000
}

func fromPGMicros(us int64) time.Time {
	sec, rest := us/1_000_000, us%1_000_000
	if rest < 0 {
		sec, rest = sec-1, rest+1_000_000
	}
	return time.Unix(sec+pgEpochUnix, rest*1000).UTC()
}

// AppendCertificate appends the canonical bytes of a certificate row:
// issuer int32, serial length int16, serial, not_after int64, revoked_at int64,
// reason int16 (-1: none), all big endian.
func AppendCertificate(dst []byte, issuer IssuerID, serial Serial, s Status) []byte {
	dst = AppendCertificateKey(dst, issuer, serial)
	dst = binary.BigEndian.AppendUint64(dst, uint64(PgMicros(s.NotAfter)))
	revokedAt, reason := int64(NullTime), ReasonNone
	if s.Revoked {
		revokedAt, reason = PgMicros(s.RevokedAt), s.Reason
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(revokedAt))
	return binary.BigEndian.AppendUint16(dst, uint16(int16(reason)))
}

// AppendCertificateKey appends the part of the canonical bytes that names the row.
func AppendCertificateKey(dst []byte, issuer IssuerID, serial Serial) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(issuer))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(serial)))
	return append(dst, serial...)
}

// ParseCertificate reads canonical bytes of a certificate row. The serial is a part of b, not a
// copy; the bytes have no Changed, which stays 0.
func ParseCertificate(b []byte) (IssuerID, Serial, Status, error) {
	if len(b) < 6 {
		return 0, nil, Status{}, fmt.Errorf("certificate row of %d octets is cut short", len(b))
	}
	issuer := IssuerID(binary.BigEndian.Uint32(b))
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 1 || n > MaxSerialLen || len(b) != 6+n+18 {
		return 0, nil, Status{}, fmt.Errorf("certificate row of %d octets names a serial of %d", len(b), n)
	}
	rest := b[6+n:]
	status := Status{
		NotAfter: fromPGMicros(int64(binary.BigEndian.Uint64(rest))),
		Reason:   Reason(int16(binary.BigEndian.Uint16(rest[16:]))),
	}
	if at := int64(binary.BigEndian.Uint64(rest[8:])); at != NullTime {
		status.Revoked, status.RevokedAt = true, fromPGMicros(at)
	}
	return issuer, Serial(b[6 : 6+n]), status, nil
}

// ParseCertificateKey reads what AppendCertificateKey wrote. The serial is a part of b.
func ParseCertificateKey(b []byte) (IssuerID, Serial, error) {
	if len(b) < 7 || len(b) != 6+int(binary.BigEndian.Uint16(b[4:])) || len(b) > 6+MaxSerialLen {
		return 0, nil, fmt.Errorf("certificate key of %d octets names no serial of that length", len(b))
	}
	return IssuerID(binary.BigEndian.Uint32(b)), Serial(b[6:]), nil
}

func AppendLP(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// AppendIssuer appends the canonical bytes of an issuer row.
func AppendIssuer(dst []byte, i Issuer) []byte {
	seconds := func(d time.Duration) { dst = binary.BigEndian.AppendUint32(dst, uint32(d/time.Second)) }
	dst = binary.BigEndian.AppendUint32(dst, uint32(i.ID))
	dst = append(dst, i.Key[:]...)
	dst = AppendLP(dst, []byte(i.Name))
	dst = AppendLP(dst, i.Certificate)
	seconds(i.Policy.Validity)
	seconds(i.Policy.Backdate)
	seconds(i.Policy.MaxStaleness)
	seconds(i.Policy.FreshForUnknown)
	seconds(i.Policy.HTTPMaxAge)
	seconds(i.Policy.Refresh)
	dst = AppendLP(dst, []byte(i.Policy.NeverIssued))
	dst = AppendLP(dst, []byte(i.Policy.Profile))
	dst = AppendLP(dst, []byte(i.Policy.CRLURL))
	if i.Policy.ArchiveCutoff {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(i.Policy.Version))
	if len(i.CRL) > 0 { // without a CRL the bytes simply end
		dst = AppendLP(dst, i.CRL)
	}
	return dst
}

// AppendResponderCertificate appends the canonical bytes of a responder_certificate row.
func AppendResponderCertificate(dst []byte, r ResponderCertificate) []byte {
	dst = append(dst, r.Fingerprint[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.IssuerID))
	dst = AppendLP(dst, r.Serial)
	dst = AppendLP(dst, []byte(r.Site))
	dst = append(dst, r.KeyHash[:]...)
	return AppendLP(dst, r.DER)
}

// ErrNoHead says that the database has no head row: a site that was never seeded, or a master that
// was never initialised.
var ErrNoHead = errors.New("the database has no head row")
