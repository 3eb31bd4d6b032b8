package db_test

import (
	"encoding/hex"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"
)

// digestVectors are the canonical bytes and digests that any implementation must
// arrive at; docs/design.md points here.
var digestVectors = []struct {
	serial              string
	notAfter, revokedAt string
	reason              db.Reason
	canonical           string
	digest              db.Digest
}{
	{
		"01", "2040-01-01T00:00:00Z", "", db.ReasonNone,
		"0000000100010100047c0f0d84c0008000000000000000ffff", 2015803280855281887,
	},
	{
		"00ff", "2026-11-22T15:04:05Z", "2026-11-22T15:04:06Z", db.ReasonKeyCompromise,
		"00000001000200ff000303dd8e964340000303dd8ea585800001", 13286517998966921043,
	},
	{
		"7fffffffffffffffffffffffffffffffffffffff", "9999-12-31T23:59:59Z", "1999-12-31T23:59:59Z", db.ReasonCertificateHold,
		"0000000100147fffffffffffffffffffffffffffffffffffffff0380e70b912c3dc0fffffffffff0bdc00006", 8413519930879540907,
	},
	{
		"00", "1971-01-02T00:00:00Z", "1971-01-03T00:00:00Z", db.ReasonNone,
		"00000001000100fffcbfc16eb36000fffcbfd58c8ac000ffff", 3870651987543712311,
	},
}

func parseTime(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestDigestInSQLEqualsDigestInGo(t *testing.T) {
	conn := dbtest.Connect(t, dbtest.New(t, migrations.Site))
	for _, v := range digestVectors {
		status := db.Status{NotAfter: parseTime(t, v.notAfter), Revoked: v.revokedAt != "", RevokedAt: parseTime(t, v.revokedAt), Reason: v.reason}
		canonical := db.AppendCertificate(nil, 1, mustSerial(t, v.serial), status)
		var revokedAt *time.Time
		var reason *int16
		if status.Revoked {
			revokedAt = &status.RevokedAt
			if v.reason != db.ReasonNone {
				n := int16(v.reason)
				reason = &n
			}
		}
		var inSQL []byte
		var digest int64
		err := conn.QueryRow(t.Context(), `select c, row_digest(c) from certificate_canonical(1, $1, $2, $3, $4) c`,
			[]byte(mustSerial(t, v.serial)), status.NotAfter, revokedAt, reason).Scan(&inSQL, &digest)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(inSQL) != hex.EncodeToString(canonical) || db.Digest(digest) != db.RowDigest(canonical) {
			t.Errorf("serial %s: SQL has %x %d, Go %x %d", v.serial, inSQL, uint64(digest), canonical, db.RowDigest(canonical))
		}
		if v.canonical != hex.EncodeToString(canonical) {
			t.Errorf("serial %s: canonical bytes are %x, the vector says %s", v.serial, canonical, v.canonical)
		}
		if v.digest != db.RowDigest(canonical) {
			t.Errorf("serial %s: digest is %d, the vector says %d", v.serial, db.RowDigest(canonical), v.digest)
		}
		issuer, serial, back, err := db.ParseCertificate(canonical)
		if err != nil || issuer != 1 || serial.String() != v.serial || !back.NotAfter.Equal(status.NotAfter) ||
			!back.RevokedAt.Equal(status.RevokedAt) || back.Reason != status.Reason {
			t.Errorf("serial %s came back as %d %s %+v, %v", v.serial, issuer, serial, back, err)
		}
	}
}

func TestIssuerAndResponderDigestsInSQLEqualGo(t *testing.T) {
	dsn, store := newMaster(t)
	mustIssue(t, store, "1122")
	conn := dbtest.Connect(t, dsn)
	rc := db.ResponderCertificate{IssuerID: 1, Serial: db.Serial{0x11, 0x22}, Site: "site-a", KeyHash: [32]byte{7}, DER: []byte{0x30, 0x00}}
	if _, err := conn.Exec(t.Context(), `select responder_add('site-a', 'http://a', '{}', '', ''); `); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `insert into responder_planned values (1, $1, $2, $3, '2020-01-01Z', '2099-01-01Z')`, []byte(rc.Serial), rc.Site, rc.KeyHash[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `select responder_certificate_add(1, $1, $2, $3, $4, '', '')`, []byte(rc.Serial), rc.Site, rc.KeyHash[:], rc.DER); err != nil {
		t.Fatal(err)
	}
	var fingerprint []byte
	if err := conn.QueryRow(t.Context(), "select fingerprint from responder_certificate").Scan(&fingerprint); err != nil {
		t.Fatal(err)
	}
	copy(rc.Fingerprint[:], fingerprint)
	head, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := store.Issuers(t.Context())
	if err != nil || len(issuers) != 1 {
		t.Fatal(issuers, err)
	}
	var want [2]db.Tally
	want[0].Add(db.AppendIssuer(nil, issuers[0]))
	want[1].Add(db.AppendResponderCertificate(nil, rc))
	if head.Issuers != want[0] || head.ResponderCertificates != want[1] {
		t.Errorf("head has %+v and %+v, Go %+v", head.Issuers, head.ResponderCertificates, want)
	}
	assertVerified(t, store)
}

// A model in Go follows 10,000 random operations; head, recount and model agree.
func TestDigestAfterTenThousandOperations(t *testing.T) {
	if testing.Short() {
		t.Skip("makes ten thousand operations")
	}
	dsn, store := newMaster(t)
	conn := dbtest.Connect(t, dsn)
	random := rand.New(rand.NewPCG(1, 2))
	model := map[string]db.Status{}
	var tally db.Tally
	set := func(serial db.Serial, s db.Status) {
		if old, there := model[string(serial)]; there {
			tally.Remove(db.AppendCertificate(nil, 1, serial, old))
		}
		model[string(serial)] = s
		tally.Add(db.AppendCertificate(nil, 1, serial, s))
	}
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for done := 0; done < 10000; {
		batch := &pgx.Batch{}
		for range 500 {
			serial := db.Serial{0x01, byte(random.IntN(8)), byte(random.IntN(256))}
			old, there := model[string(serial)]
			switch {
			case !there:
				s := db.Status{NotAfter: base.Add(time.Duration(random.IntN(1e6)) * time.Second), Reason: db.ReasonNone}
				batch.Queue("insert into certificate values (1, $1, $2)", []byte(serial), s.NotAfter)
				set(serial, s)
			case old.Permanent():
				batch.Queue("update certificate set not_after = not_after + interval '1 s' where serial = $1", []byte(serial))
				old.NotAfter = old.NotAfter.Add(time.Second)
				set(serial, old)
			case random.IntN(3) == 0:
				batch.Queue("delete from certificate where serial = $1", []byte(serial))
				tally.Remove(db.AppendCertificate(nil, 1, serial, old))
				delete(model, string(serial))
			case old.Revoked:
				batch.Queue("update certificate set revoked_at = null, reason = null where serial = $1", []byte(serial))
				old.Revoked, old.RevokedAt, old.Reason = false, time.Time{}, db.ReasonNone
				set(serial, old)
			default:
				reasons := []db.Reason{db.ReasonCertificateHold, db.ReasonCertificateHold, db.ReasonCertificateHold, db.ReasonKeyCompromise}
				old.Revoked, old.RevokedAt, old.Reason = true, time.Date(2026, 1, 1, 0, 0, random.IntN(60), 0, time.UTC), reasons[random.IntN(len(reasons))]
				batch.Queue("update certificate set revoked_at = $2, reason = $3 where serial = $1", []byte(serial), old.RevokedAt, int16(old.Reason))
				set(serial, old)
			}
			done++
		}
		if err := conn.SendBatch(t.Context(), batch).Close(); err != nil {
			t.Fatal(err)
		}
	}
	head, err := store.Head(t.Context())
	if err != nil || head.Certificates != tally {
		t.Errorf("after 10,000 operations the head has %+v, the model %+v (%v)", head.Certificates, tally, err)
	}
	assertConsistent(t, dsn)
}

func TestParseSerialIsDER(t *testing.T) {
	for text, want := range map[string]string{
		"1": "01", "0001": "01", "80": "0080", "7F": "7f", "0": "00", "00": "00", "-01": "ff", "-80": "80", "-81": "ff7f", "-0100": "ff00",
		"03:9f:AB": "039fab", "FFFF": "00ffff", "abc": "0abc", " 12\n": "12", "-0": "00",
	} {
		if got := mustSerial(t, text); got.String() != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "-", "xyz", "0x12", "1 2", "12g4", ":"} {
		if got, err := db.ParseSerial(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		} else if !strings.Contains(err.Error(), strconv.Quote(text)) {
			t.Errorf("%q: the error does not quote it: %v", text, err)
		}
	}
}

func TestParseSerialPropertyAgainstBigInt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 1, 24).Draw(t, "magnitude")
		negative := rapid.Bool().Draw(t, "negative")
		n := new(big.Int).SetBytes(raw)
		if negative {
			n.Neg(n)
		}
		serial := db.SerialFromMagnitude(raw, negative)
		got := new(big.Int).SetBytes(serial)
		if serial[0] >= 0x80 {
			got.Sub(got, new(big.Int).Lsh(big.NewInt(1), uint(8*len(serial))))
		}
		if got.Cmp(n) != 0 {
			t.Fatalf("%v became %s", n, serial)
		}
		if len(serial) > 1 && (serial[0] == 0 && serial[1] < 0x80 || serial[0] == 0xff && serial[1] >= 0x80) {
			t.Fatalf("%s is not minimal", serial)
		}
	})
}
