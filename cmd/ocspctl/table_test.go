package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// long are cells as long as they come, by the column's name; a new column needs one.
var long = map[string]string{
	"ACT": "approval request correct", "ACTION": "released", "ACTIVE": "yes", "ADDRESS": "2001:0db8:85a3:08d3:1319:8a2e:0370:7348",
	"AFTER": "12.345s", "AT": "2026-11-29T15:35:08Z", "BECOMES": "revoked for ever", "BEHIND": "16777216 KiB", "BUDGET": "35h59m", "BY": "an_operator_with_a_long_name",
	"CA UNTIL": "2036-11-29T15:35:08Z", "CERTIFICATE": "6d23h", "CERTIFICATES": "web-ca-of-2026 good until 2026-12-06T15:35:08Z; other-ca-of-2026 revoked until 2026-12-06T15:35:08Z",
	"DECIDED BY": "another_operator_with_a_long_name", "DETAIL": "its knowledge is 12m30s old, 5m0s is allowed (--max-age): its slot is read, its ocspd does not follow: see its /readyz (ocspctl doctor there)",
	"DIGEST": "8f3a51c09b7e62d4", "EFFECT": "certificate is registered", "ENDS AT": "2030-12-31T23:59:59Z", "ENTRIES": "123456", "EQUAL": "yes",
	"FILE": "/var/lib/ocspfleet/certs/site-b-web-ca-of-2026.pem", "FILE SAYS": "revoked 2026-11-29T15:35:08Z cessationOfOperation", "FINGERPRINT": strings.Repeat("9f", 32),
	"GROUP": "operator,publisher", "HERE": "good until 2030-12-31T23:59:59Z", "HEAD DIGEST": "8f3a51c09b7e62d4", "HEAD ROWS": "123456789", "HORIZON": "12m30s", "ID": strings.Repeat("7f", 20),
	"ISSUER": "the-web-server-ca-of-the-year-2026", "KEY": strings.Repeat("9f", 32), "KEY FINGERPRINT": strings.Repeat("9f", 32), "KIND": "nistP256", "LABEL": "ocsp-2026-11",
	"LATEST": "12", "LEFT": "6d23h", "LIFE LEFT": "99 %", "LINT": "e_ocsp_responder_has_no_nocheck: the certificate has neither nocheck nor a CRL; a second fault of the same length stands here",
	"LOGIN": "site_" + strings.Repeat("n", 58), "MASTER SAYS": "good until 2030-12-31T23:59:59Z", "MODE": "feed by peers", "N": "123456789",
	"NAME": strings.Repeat("ocsp.", 8) + "pki.example.org.", "NEVER ISSUED": "unauthorized", "NEW": "https://crl.pki.example.org/responders/web-ca-of-2026.crl", "NEXT SERIAL": strings.Repeat("7f", 20),
	"NEXT UPDATE": "2026-12-06T15:35:08Z", "NOT AFTER": "2026-12-06T15:35:08Z", "NOT BEFORE": "2026-11-29T15:35:08Z", "NOTE": "the row's end lies before its beginning: it is left out, as the file's other rows of that kind are",
	"NUMBER": "1795966508000", "OLD": "https://crl.pki.example.org/responders/web-ca-of-2025.crl", "PLACE": "/srv/import/index-of-the-web-ca.txt:1234567", "POSITION": "123456789",
	"PROFILE": "revocable", "REASON": "cessationOfOperation", "RESULT": "ocsp_site_b_is_the_login closed", "REVOKED AT": "2026-11-29T15:35:08Z", "ROWS": "123456789",
	"SAYS ": "yes", "SCHEMA": "common", "SERIAL": strings.Repeat("7f", 20), "SERVER": "[2001:db8:85a3:8d3:1319:8a2e:370:7348]:53", "SESSIONS": "12 of 20", "SIGNED WITH": "ECDSA-SHA256",
	"SITE": strings.Repeat("s", 63), "SLOT": "site_" + strings.Repeat("n", 58), "SOURCE": "master", "STATE": "suspended", "STATUS": "revoked 2026-11-29T15:35:08Z keyCompromise",
	"STEP": "certificates", "SUBJECT": "CN=The Web Server CA of 2026,OU=Department of Certificates,O=An Organisation with a Long Name,C=DE", "TABLE": "responder_certificate",
	"THIS UPDATE": "2026-11-29T15:35:08Z", "TTL": "3600s", "UNTIL": "2026-11-30T15:35:08Z", "URL": "http://[2001:db8:85a3:8d3:1319:8a2e:370:7348]:8080/ocsp/web-ca/", "USER": "alice as root",
	"VALIDITY": "72h0m0s", "VERDICT": "no certificate", "VERSION": "12", "WHAT": `{"issuer": "web-ca-of-2026", "reason": "cessationOfOperation", "serial": "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f", "revoked_at": "2026-11-29T15:35:08+00:00"}`,
	"WHAT WILL BE NOTICED": "answers signed from now on are good for as long; what was signed before stays as it is", "WHOSE": "site " + strings.Repeat("s", 63),
	"WHY": "the holder has left the company, as he said by telephone and by a signed letter", "WOULD BE": "good until 2030-12-31T23:59:59Z", "WRONG": "not_after",
}

// headers are the column names of every table in this program's source.
func headers(t *testing.T) [][]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	head := regexp.MustCompile(`(?:t\.row\(|rows\.text\(\[\]string\{|crlColumns = \[\]string\{)("[A-Z][A-Z ]*".*)`)
	name := regexp.MustCompile(`"([^"]*)"`)
	var found [][]string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range head.FindAllSubmatch(text, -1) {
			var names []string
			for _, n := range name.FindAllSubmatch(m[1], -1) {
				names = append(names, string(n[1]))
			}
			// Of a row that begins with a word of warning, the rest is no name.
			if len(names) > 1 && !slices.ContainsFunc(names, func(n string) bool { return n != strings.ToUpper(n) }) {
				found = append(found, names)
			}
		}
	}
	return found
}

// dense is a text without what a layout adds.
func dense(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

func printed(t *testing.T, width int, rows ...[]string) string {
	t.Helper()
	var out strings.Builder
	table := &table{w: &out, width: width}
	for _, cells := range rows {
		table.row(cells...)
	}
	if table.flush(); table.err != nil {
		t.Fatal(table.err)
	}
	return out.String()
}

// checkFits fails for a line that is wider than the terminal and not one word, and for a
// cell that got lost.
func checkFits(t interface{ Errorf(string, ...any) }, text string, width int, rows ...[]string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); utf8.RuneCountInString(line) > width && strings.Contains(line, " ") {
			t.Errorf("%d columns: %q", utf8.RuneCountInString(line), line)
		}
	}
	for _, cells := range rows {
		for _, cell := range cells {
			if !strings.Contains(dense(text), dense(cell)) {
				t.Errorf("%q is lost in\n%s", cell, text)
			}
		}
	}
}

func TestTablesFitTheTerminal(t *testing.T) {
	tables := headers(t)
	if len(tables) < 25 {
		t.Fatalf("only %d tables were found in the source", len(tables))
	}
	for _, header := range tables {
		row := make([]string, len(header))
		for i, name := range header {
			if row[i] = long[name]; row[i] == "" {
				t.Errorf("the table %q has a new column %q: add a long value of it", header, name)
			}
		}
		text := printed(t, 80, header, row)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%q: %d columns: %q", header, n, line)
			}
		}
		checkFits(t, text, 80, header, row)
		if text := printed(t, 0, header, row); strings.Count(text, "\n") != 2 {
			t.Errorf("no terminal, and a row is not one line:\n%s", text)
		}
	}
}

// Whatever the cells and the width, no line is wider, but for one word, and nothing is lost.
func TestAnyTableFits(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		cell := rapid.StringMatching(`[a-z:é]{1,30}( [a-z=]{1,30}){0,8}`)
		n := rapid.IntRange(1, 9).Draw(r, "columns")
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, n, n), 1, 4).Draw(r, "rows")
		width := rapid.IntRange(40, 200).Draw(r, "width")
		checkFits(r, printed(t, width, rows...), width, rows...)
	})
}

func TestWideRowsHaveASecondLine(t *testing.T) {
	got := printed(t, 40, []string{"SITE", "VERDICT", "HORIZON", "DETAIL"},
		[]string{"site-a", "ok", "3s", "-"}, []string{"site-b", "behind", "12m", "nobody reads its slot: see ocspsyncd and the log"})
	want := `SITE    VERDICT  HORIZON
  DETAIL
site-a  ok       3s
site-b  behind   12m
  nobody reads its slot: see ocspsyncd
  and the log
`
	if got != want {
		t.Errorf("\n%s", got)
	}
	got = printed(t, 60, []string{"ok", "clock", "as it must be"}, []string{"FAIL", "token", "the token is away: " + strings.Repeat("look for it ", 4)})
	want = `ok    clock  as it must be
FAIL  token  the token is away: look for it look for it look
             for it look for it
`
	if got != want {
		t.Errorf("\n%s", got)
	}
}

// A picture that is too high for the terminal would scroll, and be no picture.
func TestAPictureFitsTheScreen(t *testing.T) {
	for _, lines := range []int{1, 8, 9, 10, 200} {
		var out strings.Builder
		s := &screen{w: &out, size: func() (int, int) { return 20, 10 }}
		if err := s.draw(strings.Repeat("site-a ok\n", lines)); err != nil {
			t.Fatal(err)
		}
		high := strings.Count(out.String(), "\n")
		if want := min(lines, 9); high != want || strings.Contains(out.String(), "more lines") != (lines > 9) {
			t.Errorf("%d lines make %d: %q", lines, high, out.String())
		}
		if !strings.HasPrefix(out.String(), "\x1b[H") || !strings.HasSuffix(out.String(), "\x1b[J") {
			t.Errorf("%q is not drawn over the last one", out.String())
		}
	}
	var out strings.Builder
	s := &screen{w: &out, size: func() (int, int) { return 20, 5 }}
	if err := s.draw(strings.Repeat(strings.Repeat("x", 45)+"\n", 3)); err != nil { // three lines each
		t.Fatal(err)
	}
	if want := "\x1b[H" + strings.Repeat("x", 45) + "\x1b[K\n... 2 more lines: make the window higher\x1b[K\n\x1b[J"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
