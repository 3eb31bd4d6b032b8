package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Field is one value of a document: under its key in JSON, under its label in a table.
type Field struct {
	key, label string
	value      any     // nil: there is none; null in JSON, - in a table
	shown      *string // what people read instead
	hidden     bool    // people read nothing of it
}

// Record is an object in JSON; in a table a row, or a line for each field.
type Record []Field

// F is a field. Without a key people alone see it, without a label programs alone. Times
// are RFC 3339 in UTC, whole seconds; octets are hexadecimal digits; a zero time, a nil
// pointer and an empty Stringer are no value.
func F(key, label string, value any) Field { return Field{key: key, label: label, value: plain(value)} }

// Maybe is a field of which people read nothing where it has no value. The zero value of
// its type is none.
func Maybe(key, label string, value any) Field {
	value = OrNil(value)
	return Field{key: key, label: label, value: plain(value), hidden: value == nil}
}

// Some is a number of which people read nothing where it is 0.
func Some(key, label string, n int64) Field {
	return Field{key: key, label: label, value: n, hidden: n == 0}
}

// Shown is a field that people read otherwise than programs.
func Shown(key, label string, value any, shown string) Field {
	return Field{key: key, label: label, value: plain(value), shown: &shown}
}

// OrNil is no value for the zero value of a type, such as an empty text.
func OrNil(value any) any {
	if value == nil || reflect.ValueOf(value).IsZero() {
		return nil
	}
	return value
}

// plain is a value as JSON has it.
func plain(value any) any {
	of := reflect.ValueOf(value)
	switch {
	case value == nil || of.Kind() == reflect.Pointer && of.IsNil():
		return nil
	case of.Kind() == reflect.Slice && of.Len() == 0 && of.Type().Elem().Kind() != reflect.Uint8:
		return []any{}
	}
	switch v := value.(type) {
	case time.Time:
		if v.IsZero() {
			return nil
		}
		return Stamp(v)
	case json.RawMessage, Record, []Record:
		return v
	case fmt.Stringer:
		return OrNil(v.String())
	case []byte:
		return hex.EncodeToString(v)
	}
	switch of.Kind() {
	case reflect.Pointer:
		return plain(of.Elem().Interface())
	case reflect.String:
		return of.String()
	case reflect.Array:
		if of.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%x", value)
		}
	}
	return value
}

// text is the field as a cell.
func (f Field) text() string {
	if f.shown != nil {
		return *f.shown
	}
	return Text(f.value)
}

// Text is a value as people read it.
func Text(value any) string {
	switch v := plain(value).(type) {
	case nil:
		return "-"
	case bool:
		return Yes(v)
	case json.RawMessage:
		return string(v)
	case []any:
		return ""
	case []string:
		return strings.Join(v, ", ")
	default:
		return fmt.Sprint(v)
	}
}

// MarshalJSON keeps the fields' order.
func (r Record) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	text.WriteByte('{')
	for _, f := range r {
		if f.key == "" {
			continue
		}
		if text.Len() > 1 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "%q:", f.key)
		if err := enc.Encode(f.value); err != nil {
			return nil, err
		}
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}

// labels are the header of a table of such records.
func (r Record) labels() []string {
	var all []string
	for _, f := range r {
		if f.label != "" {
			all = append(all, f.label)
		}
	}
	return all
}

// cells are the record as a row.
func (r Record) cells() []string {
	var all []string
	for _, f := range r {
		if f.label != "" {
			all = append(all, f.text())
		}
	}
	return all
}

// Stamp writes a time as all programs do: RFC 3339, UTC, whole seconds.
func Stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// StampOrNil is nil, null in JSON, for a time that there is none of.
func StampOrNil(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return new(Stamp(t))
}

// TextOrNil is nil, null in JSON, for an empty text.
func TextOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// OrDash is the cell of a text that may be missing.
func OrDash(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}

// Yes is the cell of a truth; what is not as it should be stands out.
func Yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "NO"
}

// Span writes a duration in the two units that matter.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Second:
		return d.Truncate(time.Second).String()
	default:
		return d.Truncate(time.Millisecond).String()
	}
}

// ParseTime reads a time as people and openssl write it.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02", "Jan _2 15:04:05 2006 GMT"} {
		if t, err := time.Parse(layout, text); err == nil {
			if t.IsZero() { // which would mean that none was given
				return t, Usagef("time %q: lies before 1971", text)
			}
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, Usagef("time %q: want 2026-11-22T15:04:05Z, 2026-11-22 or what openssl x509 -enddate prints", text)
}
