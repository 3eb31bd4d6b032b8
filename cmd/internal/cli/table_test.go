package cli

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// dense is a text without what a layout adds.
func dense(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

func printed(width int, rows ...[]string) string {
	return Layout(width, func(t *Table) {
		for _, cells := range rows {
			t.Row(cells...)
		}
	})
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

// Whatever the cells and the width, no line is wider, but for one word, and nothing is lost.
func TestAnyTableFits(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		cell := rapid.StringMatching(`[a-z:é]{1,30}( [a-z=]{1,30}){0,8}`)
		n := rapid.IntRange(1, 9).Draw(r, "columns")
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, n, n), 1, 4).Draw(r, "rows")
		width := rapid.IntRange(40, 200).Draw(r, "width")
		checkFits(r, printed(width, rows...), width, rows...)
	})
}

func TestWideRowsHaveASecondLine(t *testing.T) {
	got := printed(40, []string{"SITE", "VERDICT", "HORIZON", "DETAIL"},
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
	got = printed(60, []string{"ok", "clock", "as it must be"}, []string{"FAIL", "token", "the token is away: " + strings.Repeat("look for it ", 4)})
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
		s := &Screen{w: &out, size: func() (int, int) { return 20, 10 }}
		if err := s.Draw(strings.Repeat("site-a ok\n", lines)); err != nil {
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
	s := &Screen{w: &out, size: func() (int, int) { return 20, 5 }}
	if err := s.Draw(strings.Repeat(strings.Repeat("x", 45)+"\n", 3)); err != nil { // three lines each
		t.Fatal(err)
	}
	if want := "\x1b[H" + strings.Repeat("x", 45) + "\x1b[K\n... 2 more lines: make the window higher\x1b[K\n\x1b[J"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
