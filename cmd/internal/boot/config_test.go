package boot_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ocspfleet/cmd/internal/boot"
)

type shop struct {
	Listen   string        `yaml:"listen"`
	Drain    time.Duration `yaml:"drain_delay"`
	Level    slog.Level    `yaml:"log_level"`
	Remote   bool          `yaml:"remote"`
	Sessions uint8         `yaml:"sessions"`
	Common   `yaml:",inline"`
	Token    *token            `yaml:"token"`
	Shelves  []shelf           `yaml:"shelves"`
	Labels   map[string]string `yaml:"labels"`
	From     netip.Prefix      `yaml:"from"`
	Ignored  int               `yaml:"-"`
	hidden   int
}

// Common stands inline.
type Common struct {
	Database string `yaml:"database"`
}

type token struct {
	URI string `yaml:"uri"`
}

type shelf struct {
	Name  string `yaml:"name"`
	Width int    `yaml:"width"`
}

func (s *shop) Check(report func(key, problem string)) {
	if s.Drain < 0 {
		report("drain_delay", "must not be negative")
	}
	if s.Database == "" {
		report("database", "missing: give the connection string")
	}
	if s.Token != nil && s.Token.URI == "" {
		report("token.uri", "missing")
	}
	for _, at := range s.Shelves {
		if at.Width > 9 {
			report("shelves[0].width", "at most 9")
		}
	}
}

func load(t testing.TB, text string, into any) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err := boot.Load(file, into)
	if s, ok := into.(*shop); ok && s.hidden != 0 {
		t.Error("an unexported field was set")
	}
	var faults *boot.Faults
	if errors.As(err, &faults) {
		faults.File = filepath.Base(faults.File)
	}
	return err
}

func TestLoadTakesOverDefaults(t *testing.T) {
	got := shop{Listen: "default", Remote: true, Shelves: []shelf{{Name: "default"}}}
	err := load(t, `
# a comment
database: postgres://x
drain_delay: 1h30m
log_level: debug
sessions: 16
token: {uri: "pkcs11:token=x"}
shelves:
  - name: upper
    width: 2
labels: {a: "1", b: two}
from: 127.0.0.0/8
`, &got)
	if err != nil {
		t.Fatal(err)
	}
	want := shop{
		Listen: "default", Remote: true, Common: Common{"postgres://x"}, Drain: 90 * time.Minute, Level: slog.LevelDebug,
		Sessions: 16, Token: &token{"pkcs11:token=x"}, Shelves: []shelf{{"upper", 2}},
		Labels: map[string]string{"a": "1", "b": "two"}, From: netip.MustParsePrefix("127.0.0.0/8"),
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(shop{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLoadReportsAllFaultsAtOnce(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"everything wrong": {
			`listne: 127.0.0.1:80
databse: x
drain_delay: 72
remote: perhaps
sessions: -3
log_level: loud
remote: true
token:
  slot: 3
shelves:
  - name: upper
    width: wide
  - 7
labels: [a]
from: nowhere
colour: red
listen:
ignored: 1
hidden: 1
`,
			`shop.yaml:1: listne: unknown key; did you mean listen?
shop.yaml:1: database: missing: give the connection string
shop.yaml:2: databse: unknown key; did you mean database?
shop.yaml:3: drain_delay: want a duration such as "72h" or "90s", got "72"
shop.yaml:4: remote: want true or false, got "perhaps"
shop.yaml:5: sessions: want a whole number, not negative, got "-3"
shop.yaml:6: log_level: "loud": slog: level string "loud": unknown name
shop.yaml:7: remote: stands a second time; first in line 4
shop.yaml:8: token.uri: missing
shop.yaml:9: token.slot: unknown key; known here: uri
shop.yaml:12: shelves[0].width: want a whole number, got "wide"
shop.yaml:13: shelves[1]: want a block of keys, got "7"
shop.yaml:14: labels: want a block of keys, got a list
shop.yaml:15: from: "nowhere": netip.ParsePrefix("nowhere"): no '/'
shop.yaml:16: colour: unknown key; known here: database, drain_delay, from, labels, listen, log_level, remote, sessions, shelves, token
shop.yaml:17: listen: has no value: give one or remove the line
shop.yaml:18: ignored: unknown key; known here: database, drain_delay, from, labels, listen, log_level, remote, sessions, shelves, token
shop.yaml:19: hidden: unknown key; known here: database, drain_delay, from, labels, listen, log_level, remote, sessions, shelves, token`,
		},
		"found by Check, with the line of the key": {
			"database: x\n\ndrain_delay: -1s\nshelves:\n  - name: a\n    width: 10\n",
			"shop.yaml:3: drain_delay: must not be negative\nshop.yaml:6: shelves[0].width: at most 9",
		},
		"empty file": {"", "shop.yaml:1: database: missing: give the connection string"},
		"comments":   {"# nothing\n", "shop.yaml:1: database: missing: give the connection string"},
		"a list":     {"- a\n", "shop.yaml:1: want a block of keys, got a list\nshop.yaml:1: database: missing: give the connection string"},
		"no YAML":    {"database: x\nlisten: a: b\n", "shop.yaml:2: mapping values are not allowed in this context"},
		"tab":        {"token:\n\turi: x\n", "shop.yaml:2: found character that cannot start any token"},
		"two files":  {"database: x\n---\ndatabase: y\n", "shop.yaml:2: a second document: one file holds one configuration"},
		"a secret at the wrong place is cut": {
			"database: x\nsessions: " + strings.Repeat("s", 60),
			`shop.yaml:2: sessions: want a whole number, not negative, got "` + strings.Repeat("s", 40) + `"...`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := load(t, test.text, new(shop))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadMissingFile(t *testing.T) {
	err := boot.Load("/nowhere/shop.yaml", new(shop))
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "reading the configuration: open /nowhere/shop.yaml") {
		t.Errorf("got %v", err)
	}
}

// No text makes Load panic, and what it accepts it accepts again.
func TestLoadSurvivesAnyText(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"listen", "database", "token", "uri", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<", "null", "~", "'", `"`, "72h", "1", "!!int ", "---\n", "#", ",", "\t", "|", "\x00",
	})
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 20).Draw(t, "text"), "")
		file := filepath.Join(dir, "any.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		first := boot.Load(file, new(shop))
		second := boot.Load(file, new(shop))
		if (first == nil) != (second == nil) {
			t.Fatalf("first %v, then %v", first, second)
		}
	})
}
