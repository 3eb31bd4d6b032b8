package syntax

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Place is where an entry is in its file; unused fields are zero.
type Place struct {
	Name string // of a file in a directory or tar
	Line int64  // from 1
	Row  int64  // from 1: of an entry that does not have its own line
}

// String returns the text between the file's name and the problem, such as
// "12", "12 row 5", "certs/a.pem" or "row 17".
func (p Place) String() string {
	var parts []string
	if p.Name != "" {
		parts = append(parts, p.Name)
	}
	if p.Line > 0 {
		parts = append(parts, strconv.FormatInt(p.Line, 10))
	}
	if p.Row > 0 {
		parts = append(parts, "row "+strconv.FormatInt(p.Row, 10))
	}
	return strings.Join(parts, " ")
}

// Quote shows a field in an error, cut short: a shifted column can hold a name.
func Quote(field []byte) string {
	if len(field) > mostShown {
		return fmt.Sprintf("%q...", bytes.ToValidUTF8(field[:mostShown], []byte("?")))
	}
	return fmt.Sprintf("%q", field)
}

const mostShown = 48

// Short cuts a text for an error.
func Short(text string) string {
	if len(text) > mostShown {
		return text[:mostShown] + "..."
	}
	return text
}
