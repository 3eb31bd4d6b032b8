package feed

import (
	"fmt"
	"time"

	"ocspfleet/db"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// The alternatives of an entry (docs/feed.md, section Entry).
var (
	tagCertificate     = asn1.Tag(0).ContextSpecific().Constructed()
	tagCertificateGone = asn1.Tag(1).ContextSpecific().Constructed()
	tagRow             = asn1.Tag(2).ContextSpecific().Constructed()
	tagRowGone         = asn1.Tag(3).ContextSpecific().Constructed()
)

// The times that PostgreSQL and our tables can store, in seconds since 1970.
const (
	minTime = 365*86400 + 1
	maxTime = 9_224_318_015_999 // the end of the year 294276
)

// addEntry writes one change. Certificates are written field by field, since nearly all changes
// are certificates; rows of other tables are their canonical bytes.
func addEntry(b *cryptobyte.Builder, c db.Change) {
	if c.Table != db.CertificateTable {
		addRow(b, c)
		return
	}
	if c.Deleted {
		issuer, serial, err := db.ParseCertificateKey(c.Content)
		if err != nil {
			b.SetError(err)
			return
		}
		b.AddASN1(tagCertificateGone, func(b *cryptobyte.Builder) { addKey(b, issuer, serial) })
		return
	}
	issuer, serial, status, err := db.ParseCertificate(c.Content)
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddASN1(tagCertificate, func(b *cryptobyte.Builder) {
		addKey(b, issuer, serial)
		b.AddASN1Int64(status.NotAfter.Unix())
		if status.Revoked {
			b.AddASN1Int64(status.RevokedAt.Unix())
			if status.Reason != db.ReasonNone {
				b.AddASN1Enum(int64(status.Reason))
			}
		}
	})
}

func addKey(b *cryptobyte.Builder, issuer db.IssuerID, serial db.Serial) {
	b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(serial) })
	b.AddASN1Int64(int64(issuer))
}

func addRow(b *cryptobyte.Builder, c db.Change) {
	if _, err := db.FeedTableOf(c.Table); err != nil {
		b.SetError(err)
		return
	}
	if len(c.Content) > MaxRow {
		b.SetError(fmt.Errorf("a row of %d octets does not fit into the feed", len(c.Content)))
		return
	}
	tag := tagRow
	if c.Deleted {
		tag = tagRowGone
	}
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.PrintableString, func(b *cryptobyte.Builder) { b.AddUint8(c.Table) })
		b.AddASN1OctetString(c.Content)
	})
}

var errEntry = formError("an entry is not of the form")

// readEntry reads one change; the caller sets its position.
func readEntry(s *cryptobyte.String) (db.Change, error) {
	var in cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&in, &tag) {
		return db.Change{}, errEntry
	}
	switch tag {
	case tagCertificate:
		return readCertificate(in)
	case tagCertificateGone:
		issuer, serial, ok := readKey(&in)
		if !ok || !in.Empty() {
			return db.Change{}, errEntry
		}
		return db.Change{Table: db.CertificateTable, Deleted: true, Content: db.AppendCertificateKey(nil, issuer, serial)}, nil
	case tagRow, tagRowGone:
		return readRow(in, tag == tagRowGone)
	}
	return db.Change{}, fmt.Errorf("%w: its tag is %#x", errEntry, uint8(tag))
}

func readCertificate(in cryptobyte.String) (db.Change, error) {
	issuer, serial, ok := readKey(&in)
	status := db.Status{Reason: db.ReasonNone}
	if !ok || !readTime(&in, &status.NotAfter) {
		return db.Change{}, errEntry
	}
	if !in.Empty() {
		if status.Revoked = true; !readTime(&in, &status.RevokedAt) {
			return db.Change{}, errEntry
		}
	}
	if !in.Empty() {
		var reason int
		if !in.ReadASN1Enum(&reason) || !in.Empty() || reason < 1 || reason > 10 || db.Reason(reason).String() == "" {
			return db.Change{}, errEntry
		}
		status.Reason = db.Reason(reason)
	}
	content := make([]byte, 0, 6+db.MaxSerialLen+18)
	return db.Change{Table: db.CertificateTable, Content: db.AppendCertificate(content, issuer, serial, status)}, nil
}

// readKey reads serial and issuer. A serial is minimal, not negative and at most
// 20 octets long (RFC 5280 section 4.1.2.2), as in the table.
func readKey(in *cryptobyte.String) (db.IssuerID, db.Serial, bool) {
	var serial cryptobyte.String
	var issuer int32
	if !in.ReadASN1(&serial, asn1.INTEGER) || !in.ReadASN1Integer(&issuer) || issuer < 1 {
		return 0, nil, false
	}
	if db.Serial(serial).Check() != nil {
		return 0, nil, false
	}
	return db.IssuerID(issuer), db.Serial(serial), true
}

func readTime(in *cryptobyte.String, at *time.Time) bool {
	var seconds int64
	if !in.ReadASN1Integer(&seconds) || seconds < minTime || seconds > maxTime {
		return false
	}
	*at = time.Unix(seconds, 0).UTC()
	return true
}

func readRow(in cryptobyte.String, gone bool) (db.Change, error) {
	var code, content cryptobyte.String
	if !in.ReadASN1(&code, asn1.PrintableString) || len(code) != 1 || code[0] == db.CertificateTable ||
		!in.ReadASN1(&content, asn1.OCTET_STRING) || !in.Empty() || len(content) == 0 || len(content) > MaxRow {
		return db.Change{}, errEntry
	}
	if _, err := db.FeedTableOf(code[0]); err != nil {
		return db.Change{}, err
	}
	return db.Change{Table: code[0], Deleted: gone, Content: content}, nil
}
