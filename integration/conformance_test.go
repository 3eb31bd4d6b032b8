package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testNamed  = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	testExists = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// Every test that docs/conformance.md, security.md, architecture.md, design.md, token.md or clients.md
// names exists, and every test that is named after a clause stands in the first.
func TestConformanceNamesRealTests(t *testing.T) {
	page := contents(t, filepath.Join("..", "docs", "conformance.md"))
	var others []string
	for _, name := range []string{"security.md", "architecture.md", "design.md", "token.md", "clients.md"} {
		others = append(others, filepath.Join("..", "docs", name))
	}
	exists := make(map[string]bool)
	err := filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			for _, found := range testExists.FindAllStringSubmatch(contents(t, path), -1) {
				exists[found[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, found := range testNamed.FindAllStringSubmatch(page, -1) {
		named[found[1]] = true
		if !exists[found[1]] {
			t.Errorf("docs/conformance.md names %s, which does not exist", found[1])
		}
	}
	for _, other := range others {
		for _, found := range testNamed.FindAllStringSubmatch(contents(t, other), -1) {
			if !exists[found[1]] {
				t.Errorf("%s names %s, which does not exist", other, found[1])
			}
		}
	}
	clause := regexp.MustCompile(`^Test(RFC|X690|BR)_?[0-9]`)
	for name := range exists {
		if clause.MatchString(name) && !named[name] {
			t.Errorf("%s is named after a clause, and docs/conformance.md does not name it", name)
		}
	}
}
