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

// rooms is the import order. Every package has a row; one without has no place
// in the house yet.
var rooms = []room{
	{"migrations", nil, reasonFloor},
	{"hsm", []string{"db"}, "the token is met as crypto.Signer; it knows no OCSP, and of db only the name of a key"},
	{"db", nil, "words and rules that everybody shares, without SQL: any room may use them"},
	{"db/internal/pg", []string{"db"}, "the pool and what PostgreSQL says, in words; Go lets nobody outside of db import it"},
	{"db/tables", []string{"db", "db/internal/pg"}, "what both databases hold; it knows neither the master's functions nor a site's"},
	{"db/masterdb", []string{"db", "db/internal/pg", "db/tables"}, "the master's functions: no program of a site can call them"},
	{"db/sitedb", []string{"db", "db/internal/pg", "db/tables"}, "a site's functions: no program of the master can call them"},
	{"integration/testkit/pgserver", nil, reasonFloor},
	{"integration/testkit/dbtest", []string{"db/...", "integration/testkit/pgserver", "migrations"}, "it makes databases for tests, no more"},
	{"db/index", []string{"db", "db/sitedb"}, "the copy in memory follows the local database and knows nothing of answers or of sync"},
	{"signer/wire", nil, reasonFloor},
	{"signer", []string{"db", "signer/wire"}, "the internet-facing part holds no operator code, no sync code and no key code: a key is a crypto.Signer"},
	{"sync/feed", []string{"db"}, "form and verification of what is signed; anything may verify, so it links no database and no network"},
	{"sync/health", nil, reasonFloor},
	{"sync/lookup", []string{"db", "sync/feed"}, "ocspd links it: it knows no database and no server"},
	{"sync/feedhttp", []string{"db", "db/tables", "sync/feed"}, "it moves octets that package feed judges, for the master and for sites alike"},
	{"sync/publish", []string{"db", "db/masterdb", "db/tables", "sync/feed", "sync/feedhttp", "sync/health", "sync/lookup"}, "the master's side of the feed knows nothing of a site's rows"},
	{"integration/testkit/feedtest", []string{"db", "db/masterdb", "sync/feed", "sync/publish"}, "it is the feed root and a person with a key, for tests"},
	{"sync/recount", nil, reasonFloor},
	{"sync/pull", []string{"db", "db/sitedb", "db/tables", "sync/feed", "sync/feedhttp", "sync/health", "sync/lookup", "sync/recount"}, reasonCopy},
	{"sync/heartbeat", []string{"db/masterdb"}, reasonCopy},
	{"sync/logical", []string{"db", "db/sitedb", "db/tables", "sync/feed", "sync/feedhttp", "sync/recount"}, reasonCopy},
	{"sync/recovery", []string{"db", "db/masterdb", "db/tables", "sync/feed", "sync/feedhttp"}, reasonCopy},
	{"sync/watchdog", []string{"db", "db/masterdb"}, reasonCopy},
	{"ops/zone", nil, reasonFloor},
	{"integration/testkit/nameserver", nil, reasonFloor},
	{"ops/ingest", []string{"db", "db/masterdb"}, "an import writes rows through db/masterdb alone, so that each has its audit entry"},
	{"ops/doctor", []string{"db", "db/masterdb", "db/sitedb", "db/tables", "migrations"}, "it is told what is in a token and in a configuration, and judges"},
	{"ops/fleet", []string{"db", "db/masterdb", "ops/zone"}, reasonOps},
	{"ops/monitor", []string{"db", "db/masterdb", "ops/fleet", "signer/wire"}, reasonOps},
	{"cmd/internal/printable", nil, reasonFloor},
	{"cmd/internal/boot", []string{"cmd/internal/printable"}, "it starts and stops any daemon and knows no domain word"},
	{"cmd/internal/front", nil, "it bounds any public listener and knows no domain word"},
	{"cmd/internal/schema", []string{"db/tables", "migrations"}, "it watches what the migrations made, for each daemon"},
	{"cmd/internal/cli", []string{"cmd/internal/boot", "cmd/internal/printable"}, "it makes a command line of verbs and prints what they say; it knows no domain word"},
	{"cmd/internal/manual", nil, "it writes pages and knows no domain word"},
	{"cmd/internal/manual/daemons", []string{"cmd/internal/manual"}, "it reads the daemons' sources and links none of their rooms"},
	{
		"cmd/ocspd",
		[]string{"cmd/internal/boot", "cmd/internal/front", "cmd/internal/schema", "db", "db/index", "db/sitedb", "db/tables", "hsm", "migrations", "signer/...", "sync/feed", "sync/lookup"},
		"the internet-facing process holds no operator code and nothing that writes a database; of sync only what verifies a checkpoint",
	},
	{
		"cmd/ocspsyncd",
		[]string{"cmd/internal/boot", "cmd/internal/front", "cmd/internal/schema", "db", "db/masterdb", "db/sitedb", "db/tables", "migrations", "sync/..."},
		"who writes the site's rows must not reach the OCSP key",
	},
	{
		"cmd/ocspctl/internal/config",
		[]string{"cmd/internal/boot", "db", "db/tables", "hsm", "migrations", "ops/fleet", "ops/zone"},
		"it says what the keys of ocspctl.yaml mean, in the types of the rooms that they are for",
	},
	{
		"cmd/ocspctl/internal/ctl",
		[]string{"cmd/internal/boot", "cmd/internal/cli", "cmd/ocspctl/internal/config", "db", "db/masterdb", "db/sitedb", "db/tables", "migrations"},
		"it is what nouns share: who acts on which database, and how a status is shown; what one noun needs alone stays there",
	},
	{
		"cmd/ocspctl/internal/keyset",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/config", "db", "db/masterdb", "ops/doctor", "sync/..."},
		"it asks the key set in force by the rules of sync/feed, for the nouns that depend on it",
	},
	{
		"cmd/ocspctl/internal/reentry",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/ctl", "db", "db/masterdb", "sync/..."},
		"two nouns enter what a master lost, and neither may do it in another way than the other",
	},
	{
		"cmd/ocspctl/approval",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/masterdb", "ops/doctor", "sync/..."},
		"a noun changes rows through the master's functions; the second person signs by the rules of sync",
	},
	{
		"cmd/ocspctl/audit",
		[]string{"cmd/internal/cli", "cmd/internal/printable", "cmd/ocspctl/internal/...", "db", "db/masterdb"},
		"a noun reads the master and prints; it opens nothing by itself",
	},
	{
		"cmd/ocspctl/cert",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/masterdb", "db/tables", "ops/fleet", "ops/ingest"},
		"a noun changes rows through the master's functions; ops/ingest reads files, ops/fleet asks the sites",
	},
	{
		"cmd/ocspctl/database",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/masterdb", "db/tables", "migrations"},
		"the noun db sets up a database before it has a schema, so that it needs the migrations and the pool's settings",
	},
	{
		"cmd/ocspctl/dns",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/...", "ops/fleet", "ops/zone"},
		"a noun shows what ops/fleet finds of the zone",
	},
	{
		"cmd/ocspctl/feed",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/masterdb", "sync/..."},
		"a noun reads and signs the feed by the rules of sync, and changes rows through the master's functions",
	},
	{
		"cmd/ocspctl/fleet",
		[]string{"cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/masterdb", "db/sitedb", "db/tables", "ops/...", "sync/..."},
		"a noun asks the sites by ops and reads what they keep by sync",
	},
	{
		"cmd/ocspctl/key",
		[]string{"cmd/internal/boot", "cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/sitedb", "hsm", "migrations", "sync/..."},
		"a noun opens the site's token, and reads which certificates its keys have in the site's copy",
	},
	{
		"cmd/ocspctl/doctor",
		[]string{"cmd/internal/boot", "cmd/internal/cli", "cmd/ocspctl/internal/...", "db", "db/masterdb", "db/sitedb", "db/tables", "hsm", "migrations", "ops/doctor", "sync/..."},
		"it gathers the facts of every kind that ops/doctor judges",
	},
	{
		"cmd/ocspctl/config",
		[]string{"cmd/internal/boot", "cmd/internal/cli", "cmd/ocspctl/internal/..."},
		"a noun reads files; the daemons check their own by themselves",
	},
	{
		"cmd/ocspctl/about",
		[]string{"cmd/internal/boot", "cmd/internal/cli", "cmd/internal/manual"},
		"what ocspctl tells of itself needs nothing of the fleet",
	},
	{
		"cmd/ocspctl",
		[]string{"cmd/internal/boot", "cmd/internal/cli", "cmd/internal/manual", "cmd/internal/printable", "cmd/ocspctl/...", "db", "db/index", "db/masterdb", "db/sitedb", "db/tables", "hsm", "migrations", "ops/...", "signer/...", "sync/..."},
		"the staff's tool wires anything but what starts servers and tokens for tests",
	},
	{
		"cmd/ocspfleet",
		[]string{"cmd/internal/boot", "cmd/internal/manual", "cmd/internal/printable", "db", "hsm", "integration/testkit/devfleet", "migrations", "ops/...", "signer/wire", "sync/..."},
		"it is a front to testkit/devfleet",
	},
	{"integration", []string{"..."}, "tests of the whole may look everywhere"},
	{"integration/house", nil, "it reads sources alone"},
	{"integration/testkit/softhsm", nil, reasonFloor},
	{"integration/testkit/faultpkcs11", nil, reasonFloor},
	{"integration/testkit/script", nil, reasonFloor},
	{
		"integration/testkit/devfleet",
		[]string{"db", "integration/testkit/pgserver", "hsm", "integration/testkit/softhsm", "migrations", "ops/...", "signer/wire"},
		"it starts the daemons as programs; linking their rooms would test something else",
	},
	{"integration/testkit/garbage", []string{"integration/testkit/devfleet"}, "it meets a site as the internet does, by its address"},
	{"integration/soak", []string{"integration/testkit/devfleet", "integration/testkit/garbage"}, "it starts a fleet and throws garbage at it"},
	{"integration/bench", []string{"..."}, "measuring may look everywhere"},
}

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
	{"github.com/go-chi/chi", []string{"signer", "sync/feedhttp", "cmd/internal/boot", "integration/bench"}, "only what listens routes"},
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
		{ImportPath: module + "cmd/ocspd", Imports: []string{module + "signer/wire", module + "ops/fleet", "testing"}},
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
		"cmd/ocspd must not import ops/fleet",
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
