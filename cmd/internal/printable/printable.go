package printable

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// safe says whether a terminal shows r and does no more. It is whatever Unicode calls
// graphic, so neither C0, C1 (U+009B begins a sequence as ESC [ does), U+2028, U+2029
// nor the bidirectional controls, which show a line in another order than it has. The
// joiners are let through: Persian and Hindi are not written without them.
func safe(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return unicode.IsGraphic(r) || r == nonJoiner || r == joiner
}

// appendSafe adds s, with each character that is neither safe nor in kept as \uXXXX,
// the form of JSON, so that JSON stays what it was; octets that are no UTF-8 as \xXX.
func appendSafe(to, s []byte, kept string) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && size == 1:
			to = fmt.Appendf(to, `\x%02x`, s[0])
		case safe(r) || strings.ContainsRune(kept, r):
			to = append(to, s[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			to = fmt.Appendf(to, `\u%04x\u%04x`, high, low)
		default:
			to = fmt.Appendf(to, `\u%04x`, r)
		}
		s = s[size:]
	}
	return to
}

// Text returns s as one line that a terminal only shows.
func Text(s string) string { return string(appendSafe(nil, []byte(s), "")) }

// lines end and columns are aligned in what a Writer passes on.
const layout = "\n\t"

// Writer returns a writer that hands on to w what a terminal only shows: of all
// control characters, line feed and tab alone. A character may come in two pieces;
// one that never becomes whole is not written.
func Writer(w io.Writer) io.Writer { return &writer{to: w} }

type writer struct {
	to   io.Writer
	rest []byte // the beginning of a character whose end has not come yet
}

func (w *writer) Write(p []byte) (int, error) {
	text := append(w.rest, p...)
	whole := len(text) - unfinished(text)
	w.rest = bytes.Clone(text[whole:])
	if _, err := w.to.Write(appendSafe(nil, text[:whole], layout)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// unfinished is how many octets at the end of s begin a character and do not end it.
func unfinished(s []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(s); n++ {
		if tail := s[len(s)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// formula are the beginnings of a cell that a spreadsheet runs.
const formula = "=+-@\t\r\n"

// Cell returns a text for a cell of a CSV file: one that a spreadsheet would run gets
// an apostrophe in front, which makes it a text there. FromCell takes it away.
func Cell(text string) string {
	if runs(text) {
		return "'" + text
	}
	return text
}

// FromCell returns the text that Cell made this of.
func FromCell(cell string) string {
	if rest, quoted := strings.CutPrefix(cell, "'"); quoted && runs(rest) {
		return rest
	}
	return cell
}

// runs says whether a spreadsheet runs a cell, or would if the apostrophes before it,
// which may be its own, were taken away: so each text comes back from its cell.
func runs(text string) bool {
	text = strings.TrimLeft(text, "'")
	return text != "" && strings.IndexByte(formula, text[0]) >= 0
}
