package index

import (
	"encoding/binary"
	"fmt"
	"time"

	"ocspfleet/db"
)

// row is one certificate, packed (34 octets for a serial of 16, 40 when revoked):
//
//	issuer 4 · serial length 1 · serial · not_after 6 · changed 6 · flags 1 [· revoked_at 6]
//
// Numbers are big endian; times are seconds since 1970, for which 6 octets are enough for every
// year in PostgreSQL. The first three fields are the key; keys are compared as octets.
type row []byte

const (
	keyPrefix  = 4 + 1
	maxKeyLen  = keyPrefix + db.MaxSerialLen
	maxRowLen  = maxKeyLen + 6 + 6 + 1 + 6
	flagsAt    = 6 + 6 // after the key
	revokedBit = 0x80
	reasonBits = 0x0f // the reason + 1
	max48      = 1<<48 - 1
)

// appendKey appends the key of a serial of at most db.MaxSerialLen octets.
func appendKey(dst []byte, issuer db.IssuerID, serial db.Serial) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(issuer))
	dst = append(dst, byte(len(serial)))
	return append(dst, serial...)
}

// appendRow appends a packed row. It refuses values that the table's CHECKs refuse, since they
// cannot be packed.
func appendRow(dst []byte, issuer db.IssuerID, serial db.Serial, s db.Status) ([]byte, error) {
	notAfter, err := seconds(s.NotAfter)
	if err != nil {
		return nil, fmt.Errorf("not_after of serial %s: %w", serial, err)
	}
	if len(serial) == 0 || len(serial) > db.MaxSerialLen || s.Changed > max48 || s.Reason < db.ReasonNone || s.Reason+1 > reasonBits {
		return nil, fmt.Errorf("row of serial %s (reason %d, change %d) is out of range", serial, s.Reason, s.Changed)
	}
	dst = appendKey(dst, issuer, serial)
	dst = append48(dst, notAfter)
	dst = append48(dst, s.Changed)
	flags := byte(s.Reason + 1)
	if !s.Revoked {
		return append(dst, flags), nil
	}
	revokedAt, err := seconds(s.RevokedAt)
	if err != nil {
		return nil, fmt.Errorf("revoked_at of serial %s: %w", serial, err)
	}
	return append48(append(dst, flags|revokedBit), revokedAt), nil
}

func seconds(t time.Time) (uint64, error) {
	s := t.Unix()
	if s < 0 || s > max48 || t.Nanosecond() != 0 {
		return 0, fmt.Errorf("%s is not in whole seconds since 1970", t)
	}
	return uint64(s), nil
}

func append48(dst []byte, n uint64) []byte {
	return append(dst, byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func read48(b []byte) uint64 {
	return uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | uint64(b[3])<<16 | uint64(b[4])<<8 | uint64(b[5])
}

// keyLen, key, issuer and serial also work on octets that only begin with a row.
func (r row) keyLen() int         { return keyPrefix + int(r[4]) }
func (r row) key() []byte         { return r[:r.keyLen()] }
func (r row) issuer() db.IssuerID { return db.IssuerID(binary.BigEndian.Uint32(r)) }
func (r row) serial() db.Serial   { return db.Serial(r[keyPrefix:r.keyLen()]) }

func (r row) status() db.Status {
	rest := r[r.keyLen():]
	flags := rest[flagsAt]
	s := db.Status{
		NotAfter: time.Unix(int64(read48(rest)), 0).UTC(),
		Changed:  read48(rest[6:]),
		Reason:   db.Reason(flags&reasonBits) - 1,
	}
	if flags&revokedBit != 0 {
		s.Revoked, s.RevokedAt = true, time.Unix(int64(read48(rest[flagsAt+1:])), 0).UTC()
	}
	return s
}

// statusIf returns nil if there is no row.
func (r row) statusIf() *db.Status {
	if r == nil {
		return nil
	}
	s := r.status()
	return &s
}

// canonical appends the octets for the digest.
func (r row) canonical(dst []byte) []byte {
	return db.AppendCertificate(dst, r.issuer(), r.serial(), r.status())
}

// irrevocable says whether the row is a permanent revocation of a certificate that has not
// expired at now: no later snapshot may remove it.
func (r row) irrevocable(now time.Time) bool {
	if r[r.keyLen()+flagsAt]&revokedBit == 0 {
		return false
	}
	s := r.status()
	return s.Permanent() && s.NotAfter.After(now)
}

// size returns the length of the row, also when other rows follow.
func (r row) size() int {
	n := r.keyLen() + flagsAt + 1
	if r[n-1]&revokedBit != 0 {
		n += 6
	}
	return n
}
