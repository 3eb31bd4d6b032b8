package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// Our own forms, as cert export writes them (db.Export). Both have the same fields; a field
// without a value is empty in CSV and null or absent in NDJSON.

// ownFields are the fields of our forms; issuer, revoked_at and reason may be absent.
var ownFields = []string{"issuer", "serial", "not_after", "status", "revoked_at", "reason"}

type csvForm struct{ issuer string }

func (f csvForm) read(in io.Reader, emit func(entry) error) error {
	return eachRow(in, emit, []string{"serial", "not_after", "status"}, func(r syntax.Record) entry { return ownEntry(r.Get, f.issuer) })
}

type ndjsonForm struct{ issuer string }

func (f ndjsonForm) read(in io.Reader, emit func(entry) error) error {
	return syntax.EachLine(in, func(line []byte, place syntax.Place, problem string) error {
		if problem != "" {
			return emit(entry{place: place, problem: problem})
		}
		if len(line) == 0 {
			return nil
		}
		fields, err := parseObject(line)
		if err != nil {
			return emit(entry{place: place, problem: err.Error()})
		}
		e := ownEntry(func(name string) string { return fields[name] }, f.issuer)
		e.place = place
		return emit(e)
	})
}

// parseObject reads a flat JSON object of texts and nulls. Unknown and repeated names are
// refused: an object must be understood whole or not at all.
func parseObject(line []byte) (map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is no JSON object")
	}
	fields := map[string]string{}
	for d.More() {
		t, err := d.Token()
		name, isText := t.(string)
		if err != nil || !isText {
			return nil, errors.New("is no JSON object")
		}
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("names %s twice", syntax.Quote([]byte(name)))
		}
		known := false
		for _, field := range ownFields {
			known = known || field == name
		}
		if !known {
			return nil, fmt.Errorf("has the unknown name %s: want %s", syntax.Quote([]byte(name)), strings.Join(ownFields, ", "))
		}
		if t, err = d.Token(); err != nil {
			return nil, errors.New("is no JSON object")
		}
		switch value := t.(type) {
		case string:
			fields[name] = value
		case nil:
			fields[name] = ""
		default:
			return nil, fmt.Errorf("%s: want a text or null", name)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("is no JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on after the JSON object")
	}
	return fields, nil
}

// ownEntry reads one row of our forms.
func ownEntry(get func(name string) string, issuer string) entry {
	row, err := ownRow(get)
	if err != nil {
		return entry{problem: err.Error()}
	}
	if named := get("issuer"); named != "" && named != issuer {
		return entry{skip: skipOtherIssuer}
	}
	return entry{row: row}
}

func ownRow(get func(name string) string) (masterdb.Row, error) {
	row := masterdb.Row{Status: db.Status{Reason: db.ReasonNone}}
	var err error
	if row.Serial, err = parseSerial(get("serial")); err != nil {
		return row, err
	}
	if row.Status.NotAfter, err = ownTime(get("not_after")); err != nil {
		return row, fmt.Errorf("not_after %w", err)
	}
	status, revokedAt, reason := get("status"), get("revoked_at"), get("reason")
	switch {
	case status == "good" && revokedAt == "" && reason == "":
		return row, nil
	case status == "good":
		return row, errors.New("is good and has a revocation time or reason")
	case status != "revoked":
		return row, fmt.Errorf("status %s: want good or revoked", syntax.Quote([]byte(status)))
	}
	row.Status.Revoked = true
	if row.Status.RevokedAt, err = ownTime(revokedAt); err != nil {
		return row, fmt.Errorf("revoked_at %w", err)
	}
	if row.Status.Reason, err = db.ParseReason(reason); err != nil {
		return row, fmt.Errorf("reason %s: is none of RFC 5280's", syntax.Quote([]byte(reason)))
	}
	return row, nil
}

// ownTime reads RFC 3339 in whole seconds.
func ownTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Nanosecond() != 0 {
		return time.Time{}, fmt.Errorf("%s: want a time in whole seconds such as 2026-11-22T15:04:05Z", syntax.Quote([]byte(text)))
	}
	return t.UTC(), nil
}
