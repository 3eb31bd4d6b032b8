package feedtest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/publisherdb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/publish"

	"golang.org/x/mod/sumdb/note"
)

// Epoch is that of the keys and heads made here.
const Epoch = 1_790_000_000

// Noon is when they were made.
var Noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

// KeyOf makes the same key from the same word every time.
func KeyOf(tb testing.TB, word string) *feed.Key {
	tb.Helper()
	seed := sha256.Sum256([]byte(word))
	key, err := feed.NewKey(Origin, ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// RootOf is the verifier of the key "root".
func RootOf(tb testing.TB) note.Verifier {
	tb.Helper()
	v, err := note.NewVerifier(KeyOf(tb, "root").Verifier())
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// KeySet is key set 1, with the keys named by words, good for a year round Noon.
func KeySet(tb testing.TB, words ...string) *feed.KeySet {
	tb.Helper()
	k := &feed.KeySet{Origin: Origin, Number: 1, Epoch: Epoch}
	for _, word := range words {
		k.Keys = append(k.Keys, feed.FeedKey{
			From: Noon.Add(-30 * 24 * time.Hour).Truncate(time.Second), Until: Noon.Add(335 * 24 * time.Hour).Truncate(time.Second),
			Verifier: KeyOf(tb, word).Verifier(),
		})
	}
	return k
}

// Head is that of a master of a thousand certificates.
func Head(position int64) db.Head {
	return db.Head{
		Epoch: Epoch, Position: position, AsOf: Noon, Certificates: db.Tally{Count: 1000, Digest: 0x0123456789abcdef},
		Issuers: db.Tally{Count: 2, Digest: 1}, ResponderCertificates: db.Tally{Count: 4, Digest: 1<<64 - 1},
		Corrections: db.Tally{Count: 3, Digest: 2}, ClosedPins: db.Tally{Count: 1, Digest: 5},
		AuditCount: 35, AuditHash: bytes.Repeat([]byte{0xaa}, 32),
	}
}

// Checkpoint is the unsigned one of Head.
func Checkpoint(position int64) feed.Checkpoint {
	c := feed.NewCheckpoint(Origin, Head(position), time.Time{})
	c.KeySet = 1
	return c
}

// Issued is n certificates of issuer 1 with random serials of 16 octets that end
// some time in 90 days; the given share of them is revoked.
func Issued(random *rand.Rand, first int64, n int, revoked float64) []db.Change {
	changes := make([]db.Change, n)
	for i := range changes {
		serial := make([]byte, 16)
		binary.BigEndian.PutUint64(serial, random.Uint64())
		binary.BigEndian.PutUint64(serial[8:], random.Uint64())
		serial[0] = serial[0]&0x7f | 0x40
		status := db.Status{NotAfter: Noon.Add(90*24*time.Hour + time.Duration(random.IntN(90*86400))*time.Second).Truncate(time.Second), Reason: db.ReasonNone}
		if random.Float64() < revoked {
			status.Revoked, status.RevokedAt, status.Reason = true, Noon.Add(-time.Duration(random.IntN(90*86400))*time.Second).Truncate(time.Second), db.ReasonSuperseded
		}
		changes[i] = db.Change{Position: first + int64(i), Table: db.CertificateTable, Content: db.AppendCertificate(nil, 1, serial, status)}
	}
	return changes
}

// EveryKind is one change of each kind.
func EveryKind(first int64) []db.Change {
	at := func(t string) time.Time {
		parsed, err := time.Parse(time.RFC3339, t)
		if err != nil {
			panic(err)
		}
		return parsed
	}
	changes := []db.Change{
		{Table: 'i', Content: []byte("canonical bytes of an issuer")},
		{Table: 'c', Content: db.AppendCertificate(nil, 1, db.Serial{0x01}, db.Status{NotAfter: at("2040-01-01T00:00:00Z"), Reason: db.ReasonNone})},
		{Table: 'c', Content: db.AppendCertificate(nil, 1, db.Serial{0x00, 0xff}, db.Status{
			NotAfter: at("2026-11-22T15:04:05Z"), Revoked: true, RevokedAt: at("2026-11-22T15:04:06Z"), Reason: db.ReasonKeyCompromise,
		})},
		{Table: 'c', Content: db.AppendCertificate(nil, 2, bytes.Repeat([]byte{0x7f}, 20), db.Status{
			NotAfter: at("9999-12-31T23:59:59Z"), Revoked: true, RevokedAt: at("1999-12-31T23:59:59Z"), Reason: db.ReasonNone,
		})},
		{Table: 'r', Content: []byte("canonical bytes of a responder certificate")},
		{Table: 'c', Deleted: true, Content: db.AppendCertificateKey(nil, 1, db.Serial{0x01})},
		{Table: 'r', Deleted: true, Content: bytes.Repeat([]byte{0x05}, 32)},
		{Table: 'k', Content: db.AppendCorrection(nil, db.Correction{
			IssuerID: 1, Serial: db.Serial{0x00, 0xff}, RevokedAt: at("2026-11-22T15:04:06Z"), CorrectedAt: at("2026-11-23T09:00:00Z"), Note: []byte("the second person's note\n"),
		})},
	}
	for i := range changes {
		changes[i].Position = first + int64(i)
	}
	return changes
}

// Sealed is a segment with its checkpoint, signed by the key of a word.
func Sealed(tb testing.TB, s *feed.Segment, key string) feed.Sealed {
	tb.Helper()
	c := Checkpoint(s.Last)
	sealed, err := feed.Seal(s, &c, KeyOf(tb, key))
	if err != nil {
		tb.Fatal(err)
	}
	return sealed
}

// AnswerKeys is key set 2: key one for the feed, key two for answers.
func AnswerKeys(tb testing.TB) *feed.KeySet {
	tb.Helper()
	k := KeySet(tb, "one")
	k.Number = 2
	k.Answers = []feed.FeedKey{{From: k.Keys[0].From, Until: k.Keys[0].Until, Verifier: KeyOf(tb, "two").Verifier()}}
	return k
}

// Answer is of a revoked certificate.
func Answer() feed.Answer {
	return publish.NewAnswer(Origin, 2, [32]byte{1}, db.Serial{0x00, 0xff}, publisherdb.Asked{
		Epoch: Epoch, Position: 9, AsOf: Noon, Issued: true,
		Status: db.Status{NotAfter: Noon.AddDate(1, 0, 0).Truncate(time.Second), Revoked: true, RevokedAt: Noon.Truncate(time.Second), Reason: db.ReasonKeyCompromise},
	})
}
