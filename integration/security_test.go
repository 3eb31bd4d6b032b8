package integration

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocspfleet/migrations"
)

// Every promise of docs/security.md has a test; TestConformanceNamesRealTests sees that
// it exists.
func TestEveryPromiseHasATest(t *testing.T) {
	_, table, found := strings.Cut(contents(t, filepath.Join("..", "docs", "security.md")), "| promise | bound | test |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/security.md has no table of promises")
	}
	promises := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			break
		}
		promises++
		if promise := strings.TrimSpace(cells[0]); !testNamed.MatchString(cells[2]) {
			t.Errorf("no test holds the promise %q", promise)
		}
	}
	if promises < 20 {
		t.Errorf("only %d promises were found", promises)
	}
}

// docs/security.md prints the matrix of rights as the migrations give them.
func TestSecurityPagePrintsTheMatrix(t *testing.T) {
	page := contents(t, filepath.Join("..", "docs", "security.md"))
	for _, role := range []migrations.Role{migrations.Master, migrations.Site} {
		if want := matrix(role); !strings.Contains(page, want+"\n") { // and no role more
			t.Errorf("docs/security.md does not print what each role may do in the database of the %s:\n%s", role, want)
		}
	}
}

// matrix writes the rights of each role in one line of a table.
func matrix(role migrations.Role) string {
	type rights struct{ calls, reads, writes, other []string }
	all := map[string]*rights{}
	for _, right := range migrations.Rights(role) {
		part := strings.Fields(right)
		of := all[part[3]]
		if of == nil {
			of = &rights{}
			all[part[3]] = of
		}
		name := strings.TrimPrefix(strings.TrimPrefix(part[1], "public."), "ocsp_internal.")
		switch {
		case part[0] == "function":
			of.calls = append(of.calls, name)
		case part[0] == "table" && part[2] == "select":
			of.reads = append(of.reads, name)
		case part[0] == "table" || part[0] == "sequence":
			of.writes = append(of.writes, name+" "+part[2])
		default:
			of.other = append(of.other, strings.TrimPrefix(part[1]+" "+part[2], "database "))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| role at the %s | database and schemas | calls | reads | writes |\n|---|---|---|---|---|\n", role)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		of := all[name]
		cell := func(list []string) string { return strings.Join(list, ", ") }
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, cell(of.other), cell(of.calls), cell(of.reads), cell(of.writes))
	}
	return b.String()
}
