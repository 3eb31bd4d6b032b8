package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is the terminal that standard output is; nil: it is none.
type screen struct {
	w    io.Writer         // as it is, for escape sequences of our own
	size func() (int, int) // columns and rows
}

// openScreen finds the terminal; one that knows no escape sequences is written to as a
// file is, but for the width.
func openScreen(f *os.File) *screen {
	if !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	s := &screen{w: f, size: func() (int, int) {
		columns, rows, _ := term.GetSize(int(f.Fd())) // 0, 0: it does not tell
		return cmp.Or(columns, 80), cmp.Or(rows, 24)
	}}
	if os.Getenv("TERM") == "dumb" {
		s.w = nil
	}
	return s
}

// columns is the width of standard output, 0 where it is no terminal.
func (p *program) columns() int {
	if p.screen == nil {
		return 0
	}
	columns, _ := p.screen.size()
	return columns
}

// draws says whether a picture can be drawn over the last one.
func (s *screen) draws() bool { return s != nil && s.w != nil }

// draw shows a text, whose lines a table made, from the top of the screen over what
// stands there. Of one that is too high the end is left out, and a line says so.
func (s *screen) draw(text string) error {
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
