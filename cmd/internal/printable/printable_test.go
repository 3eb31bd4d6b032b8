package printable

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTextShowsAndDoesNothing(t *testing.T) {
	for text, want := range map[string]string{
		"site-a": "site-a",
		"Zoë · 東京 · क्\u200dष · « oui\u00a0»":              "Zoë · 東京 · क्\u200dष · « oui\u00a0»",
		"\x1b]0;owned\x07\x1b[2J":                          `\u001b]0;owned\u0007\u001b[2J`,
		"a\r\nb\tc\x00\x7f":                                `a\u000d\u000ab\u0009c\u0000\u007f`,
		"\u009b31m \u0085":                                 `\u009b31m \u0085`,
		"\u2028\u2029":                                     `\u2028\u2029`,
		"\u061c\u200e\u200f\u202a\u202e\u2066\u2069\ufeff": `\u061c\u200e\u200f\u202a\u202e\u2066\u2069\ufeff`,
		"\x9b31m \xc3":                                     `\x9b31m \xc3`, // C1 of a terminal that is not set to UTF-8
		"\U000e0041":                                       `\udb40\udc41`,
	} {
		if got := Text(text); got != want {
			t.Errorf("Text(%q): %q, want %q", text, got, want)
		}
	}
}

// obeyed are the characters that terminals obey.
func obeyed(text string) (found []rune) {
	for _, r := range text {
		control := r < ' ' || r >= 0x7f && r < 0xa0
		bidi := r == 0x61c || r == 0x200e || r == 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
		if control || bidi || r == 0x2028 || r == 0x2029 {
			found = append(found, r)
		}
	}
	return found
}

// Whatever comes in whatever pieces, nothing comes out that a terminal obeys but line
// ends and tabs; and what was harmless comes out as it was.
func TestWriterInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "octets")) + rapid.String().Draw(t, "text") + "\x1b\u202e."
		var out bytes.Buffer
		w := Writer(&out)
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if written, err := w.Write([]byte(rest[:n])); written != n || err != nil {
				t.Fatalf("%d, %v", written, err)
			}
			rest = rest[n:]
		}
		if found := obeyed(strings.NewReplacer("\n", "", "\t", "").Replace(out.String())); len(found) > 0 {
			t.Fatalf("%q: %q has %q", text, out.String(), found)
		}
		if !utf8.ValidString(out.String()) {
			t.Fatalf("%q: %q is no UTF-8", text, out.String())
		}
		if whole := string(appendSafe(nil, []byte(text), layout)); out.String() != whole {
			t.Fatalf("%q in pieces: %q, whole: %q", text, out.String(), whole)
		}
	})
}

// JSON that went through it says what it said.
func TestWriterLeavesJSONItsValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text") + "\u009b\u202e\U000e0041"
		var out bytes.Buffer
		if err := json.NewEncoder(Writer(&out)).Encode(text); err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != strings.ToValidUTF8(text, "\ufffd") {
			t.Fatalf("%q came back as %q, %v", text, back, err)
		}
	})
}

func TestWriterReportsWhatBroke(t *testing.T) {
	if n, err := Writer(broken{}).Write([]byte("text")); n != 0 || !errors.Is(err, errBroken) {
		t.Errorf("%d, %v", n, err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestCellsAreNotRun(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "ticket 4711": "ticket 4711", "'": "'", "it's": "it's", "'quoted": "'quoted",
		"=HYPERLINK(1)": "'=HYPERLINK(1)", "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "'\t=1", "\r=1": "'\r=1", "\n=1": "'\n=1",
		"'=1": "''=1",
	} {
		if got := Cell(text); got != want {
			t.Errorf("Cell(%q): %q, want %q", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`'{0,3}[=+@\t\r\n-]?.{0,5}`).Draw(t, "text")
		cell := Cell(text)
		if cell != "" && strings.ContainsAny(cell[:1], formula) {
			t.Fatalf("Cell(%q): %q is run", text, cell)
		}
		if back := FromCell(cell); back != text {
			t.Fatalf("FromCell(Cell(%q)): %q", text, back)
		}
	})
}
