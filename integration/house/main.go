// Command house prints the measures of the code that docs/architecture.md keeps:
// `make house`. It reads the sources alone, and changes nothing.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	packageLimit = 2500 // lines of a package, without tests
	fileLimit    = 400  // lines of a Go file, tests too
	methodLimit  = 50   // exported methods of one type
)

// testLimits are how long tests may take on two cores that do nothing else.
var testLimits = map[string]time.Duration{"test": 8 * time.Minute, "test-short": 90 * time.Second}

// kits are folders that production code does not need.
var kits = []string{"integration"}

// oldWords were replaced by the field's own: docs/glossary.md. None may come back as an
// identifier, a file's name, a metric or a column.
var oldWords = []string{
	"guest", "guests", "feedguest", "guestbook", "farewell", "board", "desk", "asker", "inquirer", "ahead", "told",
	"archiver", "crowd", "errnotsealed", "trip", "intrips", "unasked", "look", "glance", "ring", "link", "gate",
	"room", "stuck", "shim", "flight", "fly", "land", "barred", "visit", "seldom", "patience", "standing",
	"withdrawal", "change_note", "feed_guest", "verdict", "finding", "leap", "inquire", "meet", "bar", "errbarred",
	"visits", "forkdesk", "setbarring",
}

// house is what was read.
type house struct {
	lines   map[string]int      // of production code, by package folder
	files   map[string]int      // lines of Go files over the limit, by path
	methods map[string]int      // exported methods, by package folder and type
	old     map[string][]string // where an old word is declared
}

func main() {
	if err := run(os.Stdout, "."); err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, root string) error {
	h := house{lines: map[string]int{}, files: map[string]int{}, methods: map[string]int{}, old: map[string][]string{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go"):
			return h.read(path)
		case strings.HasSuffix(path, ".sql"):
			return h.readSQL(path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	h.print(w)
	for _, target := range slices.Sorted(maps.Keys(testLimits)) {
		if err := took(w, target, testLimits[target]); err != nil {
			return err
		}
	}
	return arrows(w)
}

// took prints how long the last green run of a target was, which make wrote down.
func took(w io.Writer, target string, limit time.Duration) error {
	text, err := os.ReadFile(filepath.Join("bin", target+".seconds"))
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(w, "make %s: it was not green in this folder yet; %s are wanted\n", target, limit)
		return nil
	}
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	last, over := time.Duration(seconds)*time.Second, ""
	if last > limit {
		over = ": shorten something"
	}
	fmt.Fprintf(w, "make %s: %s, %s are wanted%s\n", target, last, limit, over)
	return nil
}

// read adds one Go file.
func (h *house) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines, folder := bytes.Count(text, []byte("\n")), filepath.Dir(path)
	if lines > fileLimit {
		h.files[path] = lines
	}
	if strings.HasSuffix(path, "_test.go") || isKit(folder) {
		return nil
	}
	h.lines[folder] += lines
	parsed, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	h.noteOld(strings.TrimSuffix(filepath.Base(path), ".go"), path)
	for _, metric := range metricName.FindAllStringSubmatch(string(text), -1) {
		for _, word := range strings.Split(metric[1], "_") {
			h.noteOld(word, path)
		}
	}
	for _, decl := range parsed.Decls {
		h.declared(decl, folder, path)
	}
	return nil
}

var (
	metricName = regexp.MustCompile(`"(ocsp[a-z]*_[a-z_]+)"`)
	sqlProse   = regexp.MustCompile(`--[^\n]*|'[^']*'`)
	sqlName    = regexp.MustCompile(`[a-z_]+`)
)

// readSQL notes the names of a migration: its comments and texts left out.
func (h *house) readSQL(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, name := range sqlName.FindAllString(sqlProse.ReplaceAllString(string(text), " "), -1) {
		if !slices.Contains(h.old[name], path) {
			h.noteOld(name, path)
		}
	}
	return nil
}

// declared notes the names of one declaration at the top of a file.
func (h *house) declared(decl ast.Decl, folder, path string) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		h.noteOld(decl.Name.Name, path)
		if decl.Recv != nil && decl.Name.IsExported() {
			h.methods[folder+" "+receiver(decl.Recv.List[0].Type)]++
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				h.noteOld(spec.Name.Name, path)
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					h.noteOld(name.Name, path)
				}
			}
		}
	}
}

func (h *house) noteOld(name, path string) {
	if word := strings.ToLower(name); slices.Contains(oldWords, word) {
		h.old[word] = append(h.old[word], path)
	}
}

func isKit(folder string) bool {
	return slices.ContainsFunc(kits, func(kit string) bool { return folder == kit || strings.HasPrefix(folder, kit+"/") })
}

func receiver(of ast.Expr) string {
	switch of := of.(type) {
	case *ast.StarExpr:
		return receiver(of.X)
	case *ast.IndexExpr:
		return receiver(of.X)
	case *ast.Ident:
		return of.Name
	}
	return "?"
}

func (h *house) print(w io.Writer) {
	total := 0
	for _, n := range h.lines {
		total += n
	}
	fmt.Fprintf(w, "production lines, without tests and kits: %d in %d packages\n", total, len(h.lines))
	list(w, fmt.Sprintf("packages over %d lines", packageLimit), h.lines, packageLimit)
	list(w, fmt.Sprintf("types with over %d exported methods", methodLimit), h.methods, methodLimit)
	list(w, fmt.Sprintf("Go files over %d lines", fileLimit), h.files, fileLimit)
	fmt.Fprintf(w, "old words left as names of files, types, functions, metrics, columns: %d\n", len(h.old))
	for _, word := range slices.Sorted(maps.Keys(h.old)) {
		fmt.Fprintf(w, "  %-14s %s\n", word, strings.Join(h.old[word], " "))
	}
}

// list prints those that are over the limit, the largest first.
func list(w io.Writer, title string, sizes map[string]int, limit int) {
	over := slices.DeleteFunc(slices.Collect(maps.Keys(sizes)), func(name string) bool { return sizes[name] <= limit })
	slices.SortFunc(over, func(a, b string) int { return cmp.Or(sizes[b]-sizes[a], strings.Compare(a, b)) })
	fmt.Fprintf(w, "%s: %d\n", title, len(over))
	for _, name := range over {
		fmt.Fprintf(w, "  %6d %s\n", sizes[name], name)
	}
}

// arrows says whether an import runs against the order, which the test of the rooms owns.
func arrows(w io.Writer) error {
	out, err := exec.Command("go", "test", "-count=1", "-run", "^TestRooms", "./integration").CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	if failed == nil {
		fmt.Fprintln(w, "imports against the order: 0")
		return nil
	}
	return fmt.Errorf("imports against the order:\n%s", out)
}
