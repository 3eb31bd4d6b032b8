package syntax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Records of a table: lines of fields below a line with the column names. Fields are separated
// by commas and quoted by RFC 4180 (a quoted field may contain line ends), or separated by tabs
// and escaped as by mysql --batch. The first line decides which.

// Record is one row of a table, by column name.
type Record struct {
	Columns map[string]int
	fields  []string
}

// Named says whether the names of the columns are known.
func (r Record) Named() bool { return len(r.Columns) > 0 }

// Has says whether there is such a column.
func (r Record) Has(name string) bool {
	_, there := r.Columns[name]
	return there
}

// Get returns a field, "" if the table has no such column.
func (r Record) Get(name string) string {
	if at, there := r.Columns[name]; there {
		return r.fields[at]
	}
	return ""
}

// EachRecord calls do for each record of a table, or with a problem. The table must have the
// columns wanted, in upper or lower case.
func EachRecord(in io.Reader, wanted []string, do func(r Record, place Place, problem string) error) error {
	t := tableReader{s: NewScanner(in)}
	names, place, problem, err := t.head()
	if errors.Is(err, io.EOF) {
		return do(Record{}, Place{Line: 1}, fmt.Sprintf("is missing: want the names of the columns, %s among them", strings.Join(wanted, ", ")))
	}
	if err != nil {
		return err
	}
	r := Record{Columns: map[string]int{}}
	for i, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := r.Columns[name]; twice {
			problem = "names the column " + Quote([]byte(name)) + " twice"
		}
		r.Columns[name] = i
	}
	for _, name := range wanted {
		if _, there := r.Columns[strings.ToLower(name)]; !there && problem == "" {
			problem = "lacks the column " + name + ": want the names of the columns in the first line, " + strings.Join(wanted, ", ") + " among them"
		}
	}
	if problem != "" {
		return do(Record{}, place, problem) // without columns the rest cannot be read
	}
	for {
		fields, place, problem, err := t.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if problem == "" && len(fields) != len(names) {
			problem = fmt.Sprintf("has %d fields, want %d as in the first line", len(fields), len(names))
		}
		r.fields = fields
		if err := do(r, place, problem); err != nil {
			return err
		}
	}
}

// tableReader reads the lines of a table.
type tableReader struct {
	s    *Scanner
	tabs bool // separated by tabs
}

// head reads the first line and chooses the separator by it.
func (t *tableReader) head() ([]string, Place, string, error) {
	line, problem, err := t.s.next()
	place := Place{Line: t.s.line}
	if err != nil || problem != "" {
		return nil, place, problem, err
	}
	t.tabs = bytes.IndexByte(line, '\t') >= 0
	fields, problem := t.split(line)
	return slices.Clone(fields), place, problem, nil
}

// next reads one record; empty lines are skipped.
func (t *tableReader) next() ([]string, Place, string, error) {
	for {
		line, problem, err := t.s.next()
		place := Place{Line: t.s.line}
		if err != nil || problem != "" {
			return nil, place, problem, err
		}
		if len(line) == 0 {
			continue
		}
		if !t.tabs && bytes.Count(line, []byte{'"'})%2 == 1 {
			if line, problem, err = t.goOn(bytes.Clone(line)); err != nil || problem != "" {
				return nil, place, problem, err
			}
		}
		fields, problem := t.split(line)
		return fields, place, problem, nil
	}
}

// goOn reads on until the open quote in record is closed.
func (t *tableReader) goOn(record []byte) ([]byte, string, error) {
	for {
		line, problem, err := t.s.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, "has a quote that is never closed", nil
		case err != nil || problem != "":
			return nil, problem, err
		}
		record = append(append(record, '\n'), line...)
		if len(record) > MaxLine {
			return nil, problemLong, nil
		}
		if bytes.Count(line, []byte{'"'})%2 == 1 {
			return record, "", nil
		}
	}
}

func (t *tableReader) split(line []byte) (fields []string, problem string) {
	if t.tabs {
		for field := range strings.SplitSeq(string(line), "\t") {
			fields = append(fields, unescape(field))
		}
		return fields, ""
	}
	for rest := string(line); ; {
		var field string
		if !strings.HasPrefix(rest, `"`) {
			before, after, more := strings.Cut(rest, ",")
			if strings.Contains(before, `"`) {
				return nil, "has a quote inside a field that does not begin with one"
			}
			fields = append(fields, before)
			if !more {
				return fields, ""
			}
			rest = after
			continue
		}
		field, rest = unquote(rest[1:])
		fields = append(fields, field)
		switch {
		case rest == "":
			return fields, ""
		case rest[0] != ',':
			return nil, "has text after a closing quote"
		}
		rest = rest[1:]
	}
}

// unquote returns the text before the closing quote, and the rest after it.
func unquote(text string) (field, rest string) {
	for at := 0; ; {
		end := strings.IndexByte(text[at:], '"')
		if end < 0 {
			return strings.ReplaceAll(text, `""`, `"`), ""
		}
		if at += end + 1; at == len(text) || text[at] != '"' {
			return strings.ReplaceAll(text[:at-1], `""`, `"`), text[at:]
		}
		at++
	}
}

var escapes = strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\0`, "\x00", `\\`, `\`)

// unescape reads a field as mysql --batch writes it.
func unescape(field string) string {
	if strings.IndexByte(field, '\\') < 0 || field == `\N` {
		return field
	}
	return escapes.Replace(field)
}
