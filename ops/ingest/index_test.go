package ingest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/ops/ingest/syntax"

	"github.com/google/go-cmp/cmp"
)

// now is the tests' clock.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// badLines are one fault each, with what is to be said of it.
var badLines = []struct{ line, problem string }{
	{"V\t301231235959Z\t\t01\tunknown\t/CN=fine", ""},
	{"V\t301231235959Z\t\t02\tunknown", "has 5 fields, want 6 separated by tabs"},
	{"V 301231235959Z  02 unknown /CN=blanks", "has 1 fields, want 6 separated by tabs"},
	{"V\t301231235959Z\t\t02\tunknown\t/CN=a\tb", "has 7 fields, want 6 separated by tabs"},
	{"X\t301231235959Z\t\t02\tunknown\t/CN=x", "status \"X\": want V, R or E"},
	{"\t301231235959Z\t\t02\tunknown\t/CN=x", "status \"\": want V, R or E"},
	{"V\t301331235959Z\t\t02\tunknown\t/CN=x", "expiry \"301331235959Z\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"V\t3012312359Z\t\t02\tunknown\t/CN=x", "expiry \"3012312359Z\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"V\t301231235959+0100\t\t02\tunknown\t/CN=x", "expiry \"301231235959+0100\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"V\t301231235959.5Z\t\t02\tunknown\t/CN=x", "expiry \"301231235959.5Z\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"V\t000230000000Z\t\t02\tunknown\t/CN=x", "expiry \"000230000000Z\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"V\t19700101000000Z\t\t02\tunknown\t/CN=x", "expiry \"19700101000000Z\": lies before 1971"},
	{"V\t301231235959Z\t\t-02\tunknown\t/CN=x", "serial \"-02\": is negative (RFC 5280 section 4.1.2.2)"},
	{"V\t301231235959Z\t\t0G\tunknown\t/CN=x", "serial \"0G\": want hexadecimal digits"},
	{"V\t301231235959Z\t\t\tunknown\t/CN=x", "serial \"\": want hexadecimal digits"},
	{"V\t301231235959Z\t\t0x02\tunknown\t/CN=x", "serial \"0x02\": want hexadecimal digits"},
	{"V\t301231235959Z\t\t8000000000000000000000000000000000000000\tunknown\t/CN=x", "serial 008000000000000000000000000000000000000000: has 21 octets, more than 20 (RFC 5280 section 4.1.2.2)"},
	{"V\t301231235959Z\t260101120000Z\t02\tunknown\t/CN=x", "has a revocation time (\"260101120000Z\") but is not revoked (V)"},
	{"R\t301231235959Z\t\t02\tunknown\t/CN=x", "is revoked (R) without a revocation time"},
	{"R\t301231235959Z\t29991231235959Z\t02\tunknown\t/CN=x", "revocation time 2999-12-31T23:59:59Z lies in the future"},
	{"R\t301231235959Z\tyesterday\t02\tunknown\t/CN=x", "revocation time \"yesterday\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"R\t301231235959Z\t260101120000Z,\t02\tunknown\t/CN=x", "revocation reason is empty"},
	{"R\t301231235959Z\t260101120000Z,boredom\t02\tunknown\t/CN=x", "revocation reason \"boredom\": is none of RFC 5280's"},
	{"R\t301231235959Z\t260101120000Z,removeFromCRL\t02\tunknown\t/CN=x", "revocation reason \"removeFromCRL\": is no revocation (RFC 5280 section 5.3.1)"},
	{"R\t301231235959Z\t260101120000Z,holdInstruction\t02\tunknown\t/CN=x", "revocation reason \"holdInstruction\": lacks the instruction"},
	{"R\t301231235959Z\t260101120000Z,keyTime\t02\tunknown\t/CN=x", "revocation reason \"keyTime\": lacks the time of the compromise"},
	{"R\t301231235959Z\t260101120000Z,keyTime,soon\t02\tunknown\t/CN=x", "revocation reason \"keyTime\": time of the compromise \"soon\": want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ"},
	{"R\t301231235959Z\t260101120000Z,superseded,more\t02\tunknown\t/CN=x", "revocation reason \"superseded\": is followed by \"more\""},
	{"V\t301231235959Z\t\t02\tunknown\t/CN=a\x00b", "has a NUL octet"},
	{"V\t301231235959Z\t\t03\tunknown\t" + strings.Repeat("x", 70000), "is longer than 64 KiB"},
	{"V\t291231235959Z\t\t01\tunknown\t/CN=another", "serial 01 stands in line 1 already, and says something else"},
}

// write makes an index.txt of these lines.
func write(tb testing.TB, lines ...string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "index.txt")
	text := strings.Join(lines, "\n")
	if len(lines) > 0 {
		text += "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// options are those for an index.
func options(profile db.Profile) Options {
	return Options{Form: "openssl-index", Now: now, Issuer: db.Issuer{Name: "one", Policy: db.Policy{Profile: profile}}}
}

// open judges a file that must be good.
func open(tb testing.TB, store *masterdb.DB, path string) *File {
	tb.Helper()
	x, err := Open(tb.Context(), store, []string{path}, options(db.ProfileRevocable))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(x.Close)
	return x
}

// faultsOf judges a file that must be bad.
func faultsOf(tb testing.TB, store *masterdb.DB, path string, o Options) *Faults {
	tb.Helper()
	x, err := Open(tb.Context(), store, []string{path}, o)
	if err == nil {
		x.Close()
		tb.Fatal("a bad file was taken")
	}
	faults := (*Faults)(nil)
	if !errors.As(err, &faults) {
		tb.Fatal(err)
	}
	return faults
}

func TestGoodIndexIsReadAsOpenSSLMeansIt(t *testing.T) {
	x := open(t, master(t), "testdata/good.txt")
	var got []string
	for _, r := range staged(t, x) {
		line := fmt.Sprintf("%s %s %s", placeOf(r), r.Serial, r.Status.NotAfter.Format(time.RFC3339))
		if r.Status.Revoked {
			line += fmt.Sprintf(" revoked %s %s", r.Status.RevokedAt.Format(time.RFC3339), r.Status.Reason)
		}
		got = append(got, strings.TrimSpace(line))
	}
	want := []string{
		"1 01 2030-12-31T23:59:59Z",
		"2 0a 2050-12-31T23:59:59Z",
		"3 0abc 2015-01-01T00:00:00Z",
		"5 00ff 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z",
		"6 10 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z keyCompromise",
		"7 11 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z cACompromise",
		"8 12 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z",
		"9 13 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z certificateHold",
		"10 14 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z certificateHold",
		"11 15 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z keyCompromise",
		"12 16 2030-12-31T23:59:59Z revoked 2026-01-01T12:00:00Z cACompromise",
		"13 17 2030-12-31T23:59:59Z revoked 1999-12-31T23:59:59Z superseded",
		"14 7fffffffffffffffffffffffffffffffffffffff 9999-12-31T23:59:59Z",
		"15 18 2030-12-31T23:59:59Z",
		"16 19 2030-12-31T23:59:59Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if x.Rows != 15 || x.Repeated != 1 {
		t.Errorf("%d rows, %d repeated, want 15 and 1", x.Rows, x.Repeated)
	}
}

// Every bad row is named by its line and the exact reason.
func TestBadRowsAreNamedByLineAndReason(t *testing.T) {
	var lines []string
	var want []Note
	for i, bad := range badLines {
		lines = append(lines, bad.line)
		if bad.problem != "" {
			want = append(want, Note{KindBad, syntax.Place{Line: int64(i + 1)}, bad.problem})
		}
	}
	store, rules := master(t), options(db.ProfileRevocable)
	got := faultsOf(t, store, write(t, lines...), rules)
	if got.Count != int64(len(want)) {
		t.Errorf("%d faults counted, want %d", got.Count, len(want))
	}
	if diff := cmp.Diff(want[:20], got.First); diff != "" {
		t.Errorf("first faults (-want +got):\n%s", diff)
	}
	for i, bad := range badLines { // and each alone, those beyond the twentieth too
		if bad.problem == "" {
			continue
		}
		got := faultsOf(t, store, write(t, lines[0], bad.line), rules)
		if diff := cmp.Diff([]Note{{KindBad, syntax.Place{Line: 2}, bad.problem}}, got.First); diff != "" {
			t.Errorf("line %d (-want +got):\n%s", i+1, diff)
		}
	}
}

func TestCutFileIsRefused(t *testing.T) {
	path := write(t, "V\t301231235959Z\t\t01\tunknown\t/CN=x", "V\t301231235959Z\t\t02\tunknown\t/CN=cut he")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text[:len(text)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	got := faultsOf(t, master(t), path, options(db.ProfileRevocable)).Error()
	want := path + ":2: is cut short: the file does not end with a line end\n1 bad rows in " + path + ": nothing was imported"
	if got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

// BR section 4.9.13.
func TestHoldIsRefusedForProfileBR(t *testing.T) {
	path := write(t, "R\t301231235959Z\t260101120000Z,certificateHold\t13\tunknown\t/CN=x")
	store := master(t)
	open(t, store, path)
	o := options(db.ProfileBR)
	o.Issuer = oneIssuer(t, store)
	o.Issuer.Policy.Profile, o.Issuer.Policy.Version = db.ProfileBR, 1
	if _, err := store.SetIssuer(t.Context(), o.Issuer, act); err != nil {
		t.Fatal(err)
	}
	got := faultsOf(t, store, path, o)
	if got.Count != 1 || !strings.Contains(got.First[0].Text, "4.9.13") {
		t.Errorf("faults %+v", got)
	}
}

// What the tables would refuse, to the second: a revocation may lie 5 minutes ahead.
func TestRevocationMayBeFiveMinutesAhead(t *testing.T) {
	conn := dbtest.Connect(t, dbtest.New(t, migrations.Master))
	for _, c := range []struct{ serial, notAfter, revokedAt, reason, hold, want string }{
		{`\x13`, "2030-12-31 00:00Z", "2026-11-22 12:05:00Z", "null", "true", ""},
		{`\x13`, "2030-12-31 00:00Z", "2026-11-22 12:05:01Z", "null", "true", "future"},
		{`\x13`, "1970-12-31 00:00Z", "", "null", "true", "not_after"},
		{`\x13`, "2030-12-31 00:00Z", "1970-12-31 00:00Z", "null", "true", "revoked_at"},
		{`\x13`, "2030-12-31 00:00Z", "2026-01-01 00:00Z", "6", "true", ""},
		{`\x13`, "2030-12-31 00:00Z", "2026-01-01 00:00Z", "6", "false", "hold"},
		{`\x13`, "", "2026-01-01 00:00Z", "6", "true", ""},
		{`\x80`, "2030-12-31 00:00Z", "", "null", "true", "serial"},
		{`\x0013`, "2030-12-31 00:00Z", "", "null", "true", "serial"},
	} {
		var got string
		err := conn.QueryRow(t.Context(), "select coalesce(import_fault($1::text::bytea, nullif($2, '')::timestamptz, nullif($3, '')::timestamptz, "+c.reason+"::smallint, $4::text::boolean, $5), '')",
			c.serial, c.notAfter, c.revokedAt, c.hold, now).Scan(&got)
		if err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	store := master(t)
	for _, path := range []string{"/dev/null", t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if x, err := Open(t.Context(), store, []string{path}, options(db.ProfileRevocable)); err == nil {
			x.Close()
			t.Errorf("%s was taken", path)
		}
	}
}

// What a line means is in the table's own bounds, whatever the line.
func FuzzIndexLine(f *testing.F) {
	for _, bad := range badLines {
		f.Add([]byte(bad.line))
	}
	good, err := os.ReadFile("testdata/good.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(string(good), "\n") {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		row, err := parseIndexLine(line)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 400 {
				t.Errorf("error %q", err)
			}
			return
		}
		if n := len(row.Serial); n < 1 || n > db.MaxSerialLen || row.Serial[0] >= 0x80 {
			t.Errorf("serial %s", row.Serial)
		}
		if again, err := db.ParseSerial(row.Serial.String()); err != nil || again.String() != row.Serial.String() {
			t.Errorf("serial %s is not minimal", row.Serial)
		}
		s := row.Status
		if s.NotAfter.Before(earliest) || s.Revoked && s.RevokedAt.Before(earliest) {
			t.Errorf("status %+v", s)
		}
		if s.Revoked != (line[0] == 'R') || !s.Revoked && s.Reason != db.ReasonNone {
			t.Errorf("status %+v of line %q", s, line)
		}
	})
}
