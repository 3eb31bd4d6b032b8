package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"ocspfleet/cmd/internal/cli"
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

// headers are the column names of every table in this program's source: those of rows that
// are written by hand, and the labels of each record that is a row.
func headers(t *testing.T) [][]string {
	t.Helper()
	var found [][]string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			var names []string
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Row" {
					names = columns(n.Args)
				}
			case *ast.CompositeLit:
				switch typ := n.Type.(type) {
				case *ast.ArrayType: // []string{"A", "B"}
					names = columns(n.Elts)
				case *ast.SelectorExpr:
					if typ.Sel.Name == "Record" {
						names = labels(n.Elts)
					}
				}
			}
			// Of a row that begins with a word of warning, the rest is no name.
			if len(names) > 1 {
				found = append(found, names)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// columns are the names of columns, if the expressions are nothing else.
func columns(of []ast.Expr) []string {
	var names []string
	for _, e := range of {
		sum, ok := e.(*ast.BinaryExpr)
		if ok {
			e = sum.X
		}
		name, ok := column(e)
		if !ok {
			return nil
		}
		names = append(names, name)
	}
	return names
}

// labels are the labels of a record that is a row.
func labels(fields []ast.Expr) []string {
	var names []string
	for _, e := range fields {
		call, ok := e.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 {
			continue
		}
		label := call.Args[1]
		if sum, ok := label.(*ast.BinaryExpr); ok {
			label = sum.X
		}
		if name, ok := column(label); ok {
			names = append(names, name)
		}
	}
	return names
}

// column is the name of a column: a text in upper case.
func column(e ast.Expr) (string, bool) {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	name, err := strconv.Unquote(literal.Value)
	return name, err == nil && name != "" && name[0] >= 'A' && name[0] <= 'Z' && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ ") == ""
}

// dense is a text without what a layout adds.
func dense(text string) string { return strings.Join(strings.Fields(text), "") }

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
		both := func(t *cli.Table) {
			t.Row(header...)
			t.Row(row...)
		}
		text := cli.Layout(80, both)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%q: %d columns: %q", header, n, line)
			}
		}
		for _, cell := range append(row, header...) {
			if !strings.Contains(dense(text), dense(cell)) {
				t.Errorf("%q is lost in\n%s", cell, text)
			}
		}
		if text := cli.Layout(0, both); strings.Count(text, "\n") != 2 {
			t.Errorf("no terminal, and a row is not one line:\n%s", text)
		}
	}
}
