package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Screen is the terminal of standard output; nil: it is not a terminal.
type Screen struct {
	w    io.Writer         // unfiltered, for our own escape sequences
	size func() (int, int) // columns and rows
}

// NewScreen returns a terminal with a writer; size returns its columns and rows.
func NewScreen(w io.Writer, size func() (int, int)) *Screen { return &Screen{w: w, size: size} }

// openScreen finds the terminal. One without escape sequences is treated like a file, except
// for the width.
func openScreen(f *os.File) *Screen {
	if !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	s := &Screen{w: f, size: func() (int, int) {
		columns, rows, _ := term.GetSize(int(f.Fd())) // 0, 0: unknown
		return cmp.Or(columns, 80), cmp.Or(rows, 24)
	}}
	if os.Getenv("TERM") == "dumb" {
		s.w = nil
	}
	return s
}

// Columns is the width of standard output, 0 if it is not a terminal.
func (p *Program) Columns() int {
	if p.Screen == nil {
		return 0
	}
	columns, _ := p.Screen.size()
	return columns
}

// Draws says whether a text can be drawn over the last one.
func (s *Screen) Draws() bool { return s != nil && s.w != nil }

// Draw shows a text, whose lines come from a table, from the top of the screen over the old
// content. If it is too high, its end is left out and a line says so.
func (s *Screen) Draw(text string) error {
	columns, rows := s.size()
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	var out strings.Builder
	out.WriteString("\x1b[H")
	for i, line := range lines {
		high := max(1, (utf8.RuneCountInString(line)+columns-1)/columns)
		if rest := len(lines) - i; rows-high < 1 || rest > 1 && rows-high < 2 {
			fmt.Fprintf(&out, "... %d more lines: make the window higher\x1b[K\n", rest)
			break
		}
		rows -= high
		out.WriteString(line + "\x1b[K\n")
	}
	out.WriteString("\x1b[J")
	_, err := io.WriteString(s.w, out.String())
	return err
}
