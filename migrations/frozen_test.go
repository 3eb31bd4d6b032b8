package migrations

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

var freeze = flag.Bool("freeze", false, "add new migrations to frozen.sha256; it never changes a line")

// frozenFile holds the SHA-256 of each migration, in the form of sha256sum.
const frozenFile = "frozen.sha256"

// A migration that runs somewhere is never edited: databases that have it would differ from
// those that get it later.
func TestFrozenMigrationsStayWhatTheyAre(t *testing.T) {
	sums, err := os.ReadFile(frozenFile)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	broken, added, err := compareFrozen(files, sums)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range broken {
		t.Error(fault)
	}
	if len(added) > 0 && *freeze && len(broken) == 0 {
		if err := os.WriteFile(frozenFile, append(sums, strings.Join(added, "")...), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, line := range added {
		t.Errorf("%s is not in migrations/%s: run go test ./migrations -run TestFrozen -freeze, and commit both", strings.Fields(line)[1], frozenFile)
	}
}

// compareFrozen says which migrations are not what sums has of them, and the lines of those
// that it lacks.
func compareFrozen(from fs.FS, sums []byte) (broken, added []string, err error) {
	frozen := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(sums)); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		frozen[name] = sum
	}
	names, err := fs.Glob(from, "*/*.sql")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		content, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(content)
		want, known := frozen[name]
		switch {
		case !known:
			added = append(added, fmt.Sprintf("%x  %s\n", sum, name))
		case want != hex.EncodeToString(sum[:]):
			broken = append(broken, fmt.Sprintf("migrations/%s is frozen and was changed: put it back, and add a new migration instead", name))
		}
		delete(frozen, name)
	}
	for name := range frozen {
		broken = append(broken, fmt.Sprintf("migrations/%s is frozen and is gone: put it back, and add a new migration instead", name))
	}
	return broken, added, nil
}

func TestFrozenMigrationsAreTold(t *testing.T) {
	sum := sha256.Sum256([]byte("select 1"))
	sums := fmt.Appendf(nil, "%x  a/0100_x.up.sql\n", sum)
	for name, c := range map[string]struct {
		files         fstest.MapFS
		broken, added string
	}{
		"as frozen": {fstest.MapFS{"a/0100_x.up.sql": {Data: []byte("select 1")}}, "", ""},
		"edited":    {fstest.MapFS{"a/0100_x.up.sql": {Data: []byte("select 2")}}, "was changed: put it back, and add a new migration instead", ""},
		"removed":   {fstest.MapFS{}, "is gone", ""},
		"new":       {fstest.MapFS{"a/0100_x.up.sql": {Data: []byte("select 1")}, "a/0101_y.up.sql": {Data: []byte("select 1")}}, "", "a/0101_y.up.sql"},
	} {
		broken, added, err := compareFrozen(c.files, sums)
		if err != nil || (c.broken == "") != (len(broken) == 0) || (c.added == "") != (len(added) == 0) ||
			!strings.Contains(strings.Join(broken, ""), c.broken) || !strings.Contains(strings.Join(added, ""), c.added) {
			t.Errorf("%s: broken %q, added %q, %v", name, broken, added, err)
		}
	}
}

// Each part begins at the baseline: a lower version marks a database of before it.
func TestPartsBeginAtTheBaseline(t *testing.T) {
	for _, folder := range []string{"common", "master", "site"} {
		names, err := fs.Glob(files, folder+"/*.up.sql")
		if err != nil || len(names) == 0 || !strings.HasPrefix(names[0], fmt.Sprintf("%s/%04d_", folder, Baseline)) {
			t.Errorf("%s begins with %q, %v", folder, names, err)
		}
	}
}
