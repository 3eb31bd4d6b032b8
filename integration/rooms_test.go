// Package integration tests the whole house: here its rooms, that is, which
// package may import which, and elsewhere the fleet as its users meet it.
package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "ocspfleet/"

// room says which packages of ours a package may import. A trailing /... stands
// for a package and all below it.
type room struct {
	name   string
	may    []string
	reason string
}

const (
	reasonFloor = "it lies at the bottom, so that a reader can understand it alone and every room may use it"
	reasonCopy  = "it moves rows between a database and something else; what an answer says or who operates a site is not its business"
	reasonOps   = "operators' code knows sites, never how an answer is signed or a copy is synced"
)

// fence keeps a third party's module in a few rooms.
type fence struct {
	outside string // import path, children included
	rooms   []string
	reason  string
}

var fences = []fence{
	{"github.com/jackc/pgx", []string{"db/...", "migrations", "integration/testkit/dbtest"}, "every SQL statement of the project stands in db"},
	{"database/sql", []string{"db/...", "migrations", "integration/testkit/dbtest"}, "every SQL statement of the project stands in db"},
	{"github.com/golang-migrate/migrate", []string{"migrations"}, "daemons and staff migrate through migrations.Up alone"},
	{"github.com/ThalesIgnite/crypto11", []string{"hsm/..."}, "the token is met as crypto.Signer"},
	{"github.com/miekg/pkcs11", []string{"hsm/..."}, "the token is met as crypto.Signer"},
	{"github.com/miekg/dns", []string{"ops/zone"}, "DNS updates are one replaceable piece"},
	{"github.com/go-chi/chi", []string{"signer/ocsphttp", "sync/feedhttp", "cmd/internal/boot", "integration/bench"}, "only what listens routes"},
	{"github.com/pires/go-proxyproto", []string{"cmd/internal/front"}, "who a client is, is said in one place"},
	{"github.com/spf13/cobra", []string{"cmd/..."}, "command lines belong to the programs"},
	{"go.yaml.in/yaml", []string{"cmd/...", "integration/testkit/devfleet"}, "configuration is read by the programs, strictly, through boot"},
	{"testing", []string{"integration/..."}, "production code holds no test code"},
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
	Deps       []string
}

func (p pkg) room() string { return strings.TrimPrefix(p.ImportPath, module) }

// list asks the go command, with its own idea of build tags and files.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,GoFiles,CgoFiles,Imports,Deps", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("reading go list: %v", err)
		}
		all = append(all, p)
	}
}

// within says whether name is one of, or lies under one of, the patterns.
func within(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		under, deep := strings.CutSuffix(pattern, "...")
		under = strings.TrimSuffix(under, "/")
		return name == under || deep && (under == "" || strings.HasPrefix(name, under+"/"))
	})
}

// breaches returns what is wrong with the imports of all, one line each.
func breaches(all []pkg) []string {
	var found []string
	for _, p := range all {
		at := slices.IndexFunc(rooms, func(r room) bool { return r.name == p.room() })
		if at < 0 {
			found = append(found, fmt.Sprintf("%s has no row in integration/rooms_test.go: give it one, with what it may import and why", p.room()))
			continue
		}
		for _, imported := range p.Imports {
			if name, ours := strings.CutPrefix(imported, module); ours && !within(name, rooms[at].may) {
				found = append(found, fmt.Sprintf("%s must not import %s: %s", p.room(), name, rooms[at].reason))
			}
			for _, f := range fences {
				if (imported == f.outside || strings.HasPrefix(imported, f.outside+"/")) && !within(p.room(), f.rooms) {
					found = append(found, fmt.Sprintf("%s must not import %s: %s", p.room(), imported, f.reason))
				}
			}
		}
	}
	return found
}

// linkedTests returns the test packages among the dependencies of a program.
func linkedTests(p pkg) []string {
	if p.Name != "main" {
		return nil
	}
	var found []string
	for _, dep := range p.Deps {
		standardInternal := strings.HasPrefix(dep, "internal/") || strings.HasPrefix(dep, "crypto/internal/")
		if within(dep, []string{"testing/..."}) || strings.HasSuffix(path.Base(dep), "test") && !standardInternal {
			found = append(found, fmt.Sprintf("%s links %s: test code in a program is dead weight with open doors (flags, hooks, weak defaults)", p.room(), dep))
		}
	}
	return found
}

func TestRoomsImportDownhill(t *testing.T) {
	for _, breach := range breaches(list(t)) {
		t.Error(breach)
	}
}

func TestRoomsProgramsLinkNoTests(t *testing.T) {
	for _, p := range list(t) {
		for _, breach := range linkedTests(p) {
			t.Error(breach)
		}
	}
}

func TestRoomsRoofsAreEmpty(t *testing.T) {
	for _, roof := range []string{"sync", "ops", "cmd"} {
		files, err := filepath.Glob(filepath.Join("..", roof, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 {
			t.Errorf("%v: %s is a roof over its rooms, so that its name (the standard library's, for sync) stays free", files, roof)
		}
	}
}

// TestRoomsJudgeFindsBreaches proves that the tests above can fail.
func TestRoomsJudgeFindsBreaches(t *testing.T) {
	got := breaches([]pkg{
		{ImportPath: module + "signer", Imports: []string{module + "db", module + "db/index", "github.com/jackc/pgx/v5"}},
		{ImportPath: module + "cmd/ocspd", Imports: []string{module + "signer/wire", module + "ops/issuance", "testing"}},
		{ImportPath: module + "sync/logical", Imports: []string{"sync", module + "sync", "github.com/golang-migrate/migrate/v4"}},
		{ImportPath: module + "util"},
	})
	got = append(got, linkedTests(pkg{
		ImportPath: module + "cmd/ocspd", Name: "main",
		Deps: []string{"internal/testlog", "testing", "net/http/httptest", module + "integration/testkit/dbtest", module + "db"},
	})...)
	for i, line := range got {
		got[i], _, _ = strings.Cut(line, ":")
	}
	want := []string{
		"signer must not import db/index",
		"signer must not import github.com/jackc/pgx/v5",
		"cmd/ocspd must not import ops/issuance",
		"cmd/ocspd must not import testing",
		"sync/logical must not import sync",
		"sync/logical must not import github.com/golang-migrate/migrate/v4",
		"util has no row in integration/rooms_test.go",
		"cmd/ocspd links testing",
		"cmd/ocspd links net/http/httptest",
		"cmd/ocspd links ocspfleet/integration/testkit/dbtest",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("breaches found (-want +got):\n%s", diff)
	}
}

// globalLog is what package slog offers that goes to the process-wide logger.
var globalLog = []string{
	"Default", "SetDefault", "With", "Log", "LogAttrs", "SetLogLoggerLevel",
	"Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error", "ErrorContext",
}

// globalLogging returns where a file logs past the logger it was handed.
func globalLogging(fset *token.FileSet, file *ast.File) []string {
	var found []string
	say := func(pos token.Pos, what string) {
		found = append(found, fmt.Sprintf("%s: %s: the logger is handed in, so that a test or a program decides where the lines go", fset.Position(pos), what))
	}
	var slogName string
	for _, spec := range file.Imports {
		switch imported, _ := strconv.Unquote(spec.Path.Value); imported {
		case "log":
			say(spec.Pos(), "imports log")
		case "log/slog":
			slogName = "slog"
			if spec.Name != nil {
				slogName = spec.Name.Name
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slogName != "" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == slogName && x.Obj == nil && slices.Contains(globalLog, sel.Sel.Name) {
				say(sel.Pos(), "uses slog."+sel.Sel.Name)
			}
		}
		return true
	})
	return found
}

func TestRoomsLogThroughTheirLogger(t *testing.T) {
	fset := token.NewFileSet()
	for _, p := range list(t) {
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, breach := range globalLogging(fset, file) {
				t.Error(breach)
			}
		}
	}
	const sinner = `package p
import ("log"; "log/slog")
func f(l *slog.Logger) { l.Info("good"); slog.Info("bad"); log.Print("bad") }`
	file, err := parser.ParseFile(fset, "sinner.go", sinner, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := globalLogging(fset, file); len(got) != 2 {
		t.Errorf("want 2 breaches found in the made-up file, got %q", got)
	}
}
