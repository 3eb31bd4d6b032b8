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

// Field is one value of a document, under its key in JSON and under its label in a table.
type Field struct {
	key, label string
	value      any     // nil: no value; null in JSON, - in a table
	shown      *string // text for people instead of the value
	hidden     bool    // not shown to people
}

// Record is an object in JSON; in a table a row, or a line for each field.
type Record []Field

// F is a field. Without a key only people see it, without a label only programs. Times are RFC
// 3339 in UTC, whole seconds; octets are hexadecimal digits; a zero time, a nil pointer and an
// empty Stringer count as no value.
func F(key, label string, value any) Field { return Field{key: key, label: label, value: plain(value)} }

// Maybe is a field that people do not see when it has no value. The zero value of its type is
// no value.
func Maybe(key, label string, value any) Field {
	value = OrNil(value)
	return Field{key: key, label: label, value: plain(value), hidden: value == nil}
}

// Some is a number that people do not see when it is 0.
func Some(key, label string, n int64) Field {
	return Field{key: key, label: label, value: n, hidden: n == 0}
}

// Shown is a field with different text for people and programs.
func Shown(key, label string, value any, shown string) Field {
	return Field{key: key, label: label, value: plain(value), shown: &shown}
}

// OrNil returns nil for the zero value of a type, such as an empty text.
func OrNil(value any) any {
	if value == nil || reflect.ValueOf(value).IsZero() {
		return nil
	}
	return value
}

// plain returns a value in its JSON form.
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

// text returns the field as a cell.
func (f Field) text() string {
	if f.shown != nil {
		return *f.shown
	}
	return Text(f.value)
}

// Text returns a value as text for people.
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

// labels returns the header of a table of such records.
func (r Record) labels() []string {
	var all []string
	for _, f := range r {
		if f.label != "" {
			all = append(all, f.label)
		}
	}
	return all
}

// cells returns the record as a row.
func (r Record) cells() []string {
	var all []string
	for _, f := range r {
		if f.label != "" {
			all = append(all, f.text())
		}
	}
	return all
}

// Stamp writes a time as in all programs: RFC 3339, UTC, whole seconds.
func Stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// StampOrNil is nil, null in JSON, for the zero time.
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

// OrDash returns the cell of a text that may be missing.
func OrDash(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}

// Yes returns the cell of a boolean; false is emphasised.
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

// ParseTime reads a time in the forms that people and openssl write.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02", "Jan _2 15:04:05 2006 GMT"} {
		if t, err := time.Parse(layout, text); err == nil {
			if t.IsZero() { // the zero time means "not given"
				return t, Usagef("time %q: lies before 1971", text)
			}
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, Usagef("time %q: want 2026-11-22T15:04:05Z, 2026-11-22 or what openssl x509 -enddate prints", text)
}
