package cli

import (
	"encoding/json"
	"fmt"
	"io"
)

// Print writes v as JSON, or the table that asTable makes. Show is simpler.
func (p *Program) Print(v any, asTable func(*Table)) error {
	if p.Output == "json" {
		enc := json.NewEncoder(p.Stdout)
		enc.SetEscapeHTML(false)
		if !p.OneLine {
			enc.SetIndent("", "  ")
		}
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("writing the result: %w", err)
		}
		return nil
	}
	t := &Table{w: p.Stdout, width: p.Columns()}
	asTable(t)
	t.flush()
	return t.err
}

// Draft is a table in memory, as wide as the terminal.
func (p *Program) Draft(asTable func(*Table)) string { return Layout(p.Columns(), asTable) }

// Part is a part of a verb's output: fields of its JSON document, and text for people. Both are
// optional.
type Part interface {
	Fields() Record
	Tell(t *Table)
}

// Show prints a document of the parts: one JSON object with all their fields, or one part below
// the other.
func (p *Program) Show(parts ...Part) error {
	doc := Record{}
	for _, part := range parts {
		doc = append(doc, part.Fields()...)
	}
	return p.Print(doc, func(t *Table) {
		for _, part := range parts {
			part.Tell(t)
		}
	})
}

// Fields is a record as a part of a document.
func (r Record) Fields() Record { return r }

// Tell prints a line for each labelled field.
func (r Record) Tell(t *Table) {
	for _, f := range r {
		if f.label != "" && !f.hidden {
			t.Row(f.label, f.text())
		}
	}
}

// object is a record as one field of the document.
type object struct {
	Record
	key string
}

// Object is a record under a key of the document; people see its fields as lines.
func Object(key string, r Record) Part { return object{r, key} }

// Fields returns the one field.
func (o object) Fields() Record { return Record{F(o.key, "", o.Record)} }

// Records are rows as an array in JSON.
func Records[T any](rows []T, record func(T) Record) []Record {
	all := make([]Record, len(rows))
	for i, row := range rows {
		all[i] = record(row)
	}
	return all
}

// list is a table of records, an array in JSON.
type list struct {
	key     string
	records []Record
	header  []string
	quiet   bool
}

// List is a table with a row for each record, and the array key of the document. Without rows
// the header alone is shown.
func List[T any](key string, rows []T, record func(T) Record) Part {
	var none T
	return list{key: key, records: Records(rows, record), header: record(none).labels()}
}

// Few is a List that shows nothing when there are no rows.
func Few[T any](key string, rows []T, record func(T) Record) Part {
	l := List(key, rows, record).(list)
	l.quiet = len(rows) == 0
	return l
}

func (l list) Fields() Record { return Record{{key: l.key, value: l.records}} }

func (l list) Tell(t *Table) {
	if l.quiet {
		return
	}
	t.Row(l.header...)
	for _, r := range l.records {
		t.Row(r.cells()...)
	}
}

// said is text only for people.
type said func(*Table)

func (said) Fields() Record  { return nil }
func (s said) Tell(t *Table) { s(t) }

// Line is a line of text for people, which ends the columns above it.
func Line(format string, args ...any) Part {
	return said(func(t *Table) { t.Line(fmt.Sprintf(format, args...)) })
}

// Below is a part with an empty line above it.
func Below(part Part) Part { return below{part} }

type below struct{ Part }

func (b below) Tell(t *Table) {
	t.Line("")
	b.Part.Tell(t)
}

// Said is text only for people.
func Said(tell func(*Table)) Part { return said(tell) }

// quiet is fields only for programs.
type quiet struct{ Part }

func (quiet) Tell(*Table) {}

// Quiet is a part that people do not see.
func Quiet(part Part) Part { return quiet{part} }

// Outcome is the result of a change. The JSON of every verb that changes something begins with
// it; people read it last.
type Outcome struct {
	Action  string `json:"action"`
	Applied bool   `json:"applied"` // false: only planned
	Changed bool   `json:"changed"` // something is different, or would be with --apply
}

// NewOutcome is the outcome of an action, named after its verb.
func NewOutcome(action string, applied, changed bool) Outcome {
	return Outcome{Action: action, Applied: applied, Changed: changed}
}

// Fields returns all three.
func (o Outcome) Fields() Record {
	return Record{F("action", "", o.Action), F("applied", "", o.Applied), F("changed", "", o.Changed)}
}

// Tell prints the last line for people.
func (o Outcome) Tell(t *Table) {
	switch {
	case !o.Applied && o.Changed:
		t.Line("Nothing was done: this is the plan. --apply does it.")
	case !o.Applied:
		t.Line("Nothing was done, and nothing is to be done: it is so already.")
	case o.Changed:
		t.Line("Done.")
	default:
		t.Line("Nothing was to be done: it is so already.")
	}
}

// ShowChange prints the outcome of a change, with the parts between its fields and its last
// line.
func (p *Program) ShowChange(o Part, parts ...Part) error {
	return p.Show(append(append([]Part{Quiet(o)}, parts...), Said(o.Tell))...)
}

// Stream writes any number of records as they come: an array under key in JSON, else a table of
// fixed widths, since the widest row is not known beforehand.
type Stream struct {
	w    io.Writer
	json bool
	rows Fold
	none bool
}

// NewStream begins the document; End ends it. The header comes from the labels of the record;
// widths are the widths of the columns.
func (p *Program) NewStream(w io.Writer, key string, header Record, widths []int, least int) (*Stream, error) {
	s := &Stream{w: w, json: p.Output == "json", rows: FoldOf(widths, least, p.Columns()), none: true}
	text := s.rows.Text(header.labels())
	if s.json {
		text = fmt.Sprintf("{%q: [", key)
	}
	_, err := io.WriteString(w, text)
	return s, err
}

// Row writes one record.
func (s *Stream) Row(r Record) error {
	if !s.json {
		_, err := io.WriteString(s.w, s.rows.Text(r.cells()))
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	separator := ",\n  "
	if s.none {
		separator = "\n  "
	}
	s.none = false
	_, err = fmt.Fprintf(s.w, "%s%s", separator, line)
	return err
}

// End writes the end of the document.
func (s *Stream) End() error {
	if !s.json {
		return nil
	}
	_, err := io.WriteString(s.w, "\n]}\n")
	return err
}
