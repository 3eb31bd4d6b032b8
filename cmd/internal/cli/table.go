package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"ocspfleet/cmd/internal/printable"
)

// Table prints everything that a program shows to people. Rows that follow each other are
// aligned. With width 0 (standard output is not a terminal) a row is one line, for grep and
// awk. On a terminal no line is wider than it, and no text is cut off: see Fold.
type Table struct {
	w     io.Writer
	width int        // columns of the terminal; 0: not a terminal
	rows  [][]string // not written yet
	err   error      // the first write error
}

// Layout makes a table in memory.
func Layout(width int, asTable func(*Table)) string {
	var text strings.Builder
	t := &Table{w: &text, width: width}
	asTable(t)
	t.flush()
	return text.String()
}

// Row adds one row of cells. A tab or line end inside a cell would break the table, so it is
// escaped, like all other unsafe characters.
func (t *Table) Row(cells ...string) {
	shown := make([]string, len(cells))
	for i, cell := range cells {
		shown[i] = printable.Text(cmp.Or(cell, "-"))
	}
	t.rows = append(t.rows, shown)
}

// Line writes a line of free text, which ends the columns above it.
func (t *Table) Line(text string) {
	lines := []string{printable.Text(text)}
	if t.width > 0 {
		lines = wrap(lines[0], t.width)
	}
	t.Block(strings.Join(lines, "\n"))
}

// Linef is Line with a format.
func (t *Table) Linef(format string, args ...any) { t.Line(fmt.Sprintf(format, args...)) }

// Block writes lines of our own making, such as PEM.
func (t *Table) Block(text string) {
	t.flush()
	t.write(text + "\n")
}

func (t *Table) write(text string) {
	if _, err := io.WriteString(t.w, text); err != nil && t.err == nil {
		t.err = fmt.Errorf("writing the result: %w", err)
	}
}

// flush writes the rows that came since the last line.
func (t *Table) flush() {
	if len(t.rows) == 0 {
		return
	}
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	for _, cells := range t.rows {
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // into memory
	if t.width > 0 && wider(text.String(), t.width) {
		text.Reset()
		f := newFold(t.rows, t.width)
		for _, cells := range t.rows {
			text.WriteString(f.Text(cells))
		}
	}
	t.rows = nil
	t.write(text.String())
}

func wider(text string, width int) bool {
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > width {
			return true
		}
	}
	return false
}

const (
	columnGap = 2
	// minText is the least width for the last column beside the others; with less it goes below
	// them.
	minText = 30
)

// Fold lays out rows that are too wide for the terminal: the first line has as many columns as
// fit, the line below, indented, the next ones, and so on; the header, too. Empty lines at a
// row's end are left out. Text is wrapped at spaces; a word longer than the terminal, such as a
// URL, stays whole so that it can be copied.
type Fold struct {
	bands  [][]int // the columns of each line
	widths []int   // of each column
	width  int
}

func newFold(rows [][]string, width int) Fold {
	var widths []int
	words := map[int]int{} // the longest word of each column
	for _, cells := range rows {
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			for word := range strings.FieldsSeq(cell) {
				words[i] = max(words[i], utf8.RuneCountInString(word))
			}
		}
	}
	return FoldOf(widths, max(minText, words[len(widths)-1]), width)
}

// FoldOf is the layout of columns of known widths; the last one needs only least. A width of 0
// is no limit.
func FoldOf(widths []int, least, width int) Fold {
	width = cmp.Or(width, math.MaxInt)
	f := Fold{widths: widths, width: width}
	used := 0
	for column, wide := range widths {
		room := width - used - columnGap
		last := column == len(widths)-1
		if column == 0 || wide > room && !(last && room >= least) {
			f.bands = append(f.bands, nil)
			used = f.indent(len(f.bands)-1) - columnGap
		}
		at := len(f.bands) - 1
		f.bands[at] = append(f.bands[at], column)
		used += columnGap + wide
	}
	return f
}

// indent is the indentation of a band's line.
func (f Fold) indent(band int) int { return min(band, 1) * columnGap }

// Text is one row, with a line end after each of its lines.
func (f Fold) Text(cells []string) string {
	bands := f.bands
	empty := func(column int) bool { return column >= len(cells) || strings.Trim(cells[column], "- ") == "" }
	for len(bands) > 1 && !slices.ContainsFunc(bands[len(bands)-1], func(column int) bool { return !empty(column) }) {
		bands = bands[:len(bands)-1]
	}
	var text strings.Builder
	for band, columns := range bands {
		line, at := strings.Repeat(" ", f.indent(band)), f.indent(band)
		for n, column := range columns {
			cell := ""
			if column < len(cells) {
				cell = cells[column]
			}
			if n < len(columns)-1 {
				line += fmt.Sprintf("%-*s", f.widths[column]+columnGap, cell)
				at += f.widths[column] + columnGap
				continue
			}
			line += strings.Join(wrap(cell, f.width-at), "\n"+strings.Repeat(" ", at))
		}
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return text.String()
}

// wrap breaks a text at spaces into lines of at most width; a longer word stays whole. Spaces
// at its beginning are repeated on each line.
func wrap(text string, width int) []string {
	if utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	var lines []string
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, indent+word)
		}
	}
	return lines
}
