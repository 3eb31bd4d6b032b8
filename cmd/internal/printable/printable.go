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

// safe says whether a terminal only shows r. It is true for all that Unicode calls graphic, so
// not for C0, C1 (U+009B begins a sequence like ESC [), U+2028, U+2029 or the bidirectional
// controls, which show a line in another order. The joiners are allowed: Persian and Hindi need
// them.
func safe(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return unicode.IsGraphic(r) || r == nonJoiner || r == joiner
}

// appendSafe adds s to to. A character that is neither safe nor in kept becomes \uXXXX, the
// form of JSON, so that JSON keeps its meaning; octets that are not UTF-8 become \xXX.
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

// A Writer also passes these: they end lines and align columns.
const layout = "\n\t"

// Writer returns a writer that passes to w only what a terminal shows: of all control
// characters only line feed and tab. A character may come in two pieces; an incomplete one is
// not written.
func Writer(w io.Writer) io.Writer { return &writer{to: w} }

type writer struct {
	to   io.Writer
	rest []byte // the beginning of an incomplete character
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

// unfinished is how many octets at the end of s are an incomplete character.
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

// formula are the first characters of a cell that a spreadsheet runs.
const formula = "=+-@\t\r\n"

// Cell returns a text for a cell of a CSV file: if a spreadsheet would run it, it gets an
// apostrophe in front, which makes it a text there. FromCell removes the apostrophe.
func Cell(text string) string {
	if runs(text) {
		return "'" + text
	}
	return text
}

// FromCell returns the text from which Cell made this.
func FromCell(cell string) string {
	if rest, quoted := strings.CutPrefix(cell, "'"); quoted && runs(rest) {
		return rest
	}
	return cell
}

// runs says whether a spreadsheet runs a cell, or would without the apostrophes before it,
// which may belong to the text: so FromCell gives back every text.
func runs(text string) bool {
	text = strings.TrimLeft(text, "'")
	return text != "" && strings.IndexByte(formula, text[0]) >= 0
}
