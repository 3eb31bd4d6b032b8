package ingest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// indexFields are status, expiry, revocation, serial, file and subject name, as
// openssl's CA database has them (apps/apps.h, DB_type to DB_name).
const indexFields = 6

// indexForm is the index.txt of openssl ca.
type indexForm struct{}

// read skips empty lines and openssl's comments (#).
func (indexForm) read(in io.Reader, emit func(entry) error) error {
	return syntax.EachLine(in, func(line []byte, place syntax.Place, problem string) error {
		if problem != "" {
			return emit(entry{place: place, problem: problem})
		}
		if len(line) == 0 || line[0] == '#' {
			return nil
		}
		row, err := parseIndexLine(line)
		if err != nil {
			return emit(entry{place: place, problem: err.Error()})
		}
		return emit(entry{place: place, row: row})
	})
}

// parseIndexLine reads one line of index.txt, without its line end. File and subject name are
// not read.
func parseIndexLine(line []byte) (masterdb.Row, error) {
	fields := splitFields(line)
	if len(fields) != indexFields {
		return masterdb.Row{}, fmt.Errorf("has %d fields, want %d separated by tabs", len(fields), indexFields)
	}
	notAfter, err := parseTime(fields[1])
	if err != nil {
		return masterdb.Row{}, fmt.Errorf("expiry %w", err)
	}
	row := masterdb.Row{Status: db.Status{NotAfter: notAfter, Reason: db.ReasonNone}}
	if row.Serial, err = parseSerial(string(fields[3])); err != nil {
		return masterdb.Row{}, err
	}
	switch status, revocation := string(fields[0]), string(fields[2]); {
	case status != "V" && status != "R" && status != "E":
		return masterdb.Row{}, fmt.Errorf("status %s: want V, R or E", syntax.Quote(fields[0]))
	case status == "R" && revocation == "":
		return masterdb.Row{}, errors.New("is revoked (R) without a revocation time")
	case status != "R" && revocation != "":
		return masterdb.Row{}, fmt.Errorf("has a revocation time (%s) but is not revoked (%s)", syntax.Quote(fields[2]), status)
	case status == "R":
		row.Status.Revoked = true
		if row.Status.RevokedAt, row.Status.Reason, err = parseRevocation(revocation); err != nil {
			return masterdb.Row{}, fmt.Errorf("revocation %w", err)
		}
	}
	return row, nil
}

// splitFields splits at tabs, except those after a backslash, as openssl's TXT_DB does; a
// subject name can contain one.
func splitFields(line []byte) [][]byte {
	fields := make([][]byte, 0, indexFields)
	start := 0
	for i, c := range line {
		if c == '\t' && (i == 0 || line[i-1] != '\\') {
			fields = append(fields, line[start:i])
			start = i + 1
		}
	}
	return append(fields, line[start:])
}

// parseTime reads YYMMDDHHMMSSZ and YYYYMMDDHHMMSSZ (RFC 5280 section 4.1.2.5:
// a two-digit year from 50 on is of the 20th century).
func parseTime(text []byte) (time.Time, error) {
	const layout = "20060102150405Z"
	full := string(text)
	if len(full) == len(layout)-2 {
		century := "20"
		if full[0] >= '5' {
			century = "19"
		}
		full = century + full
	}
	t, err := time.Parse(layout, full)
	if err != nil || len(full) != len(layout) { // Parse accepts fractions of a second
		return time.Time{}, fmt.Errorf("%s: want YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ", syntax.Quote(text))
	}
	if !t.After(earliest) {
		return time.Time{}, fmt.Errorf("%s: lies before %d", syntax.Quote(text), earliest.Year())
	}
	return t, nil
}

// parseRevocation reads "time[,reason[,more]]". Three of openssl's reasons are not a CRLReason:
// holdInstruction means certificateHold; keyTime and CAkeyTime mean a compromise of the key, at
// a time that OCSP does not carry.
func parseRevocation(text string) (time.Time, db.Reason, error) {
	parts := strings.SplitN(text, ",", 3)
	at, err := parseTime([]byte(parts[0]))
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("time %w", err)
	}
	if len(parts) == 1 {
		return at, db.ReasonNone, nil
	}
	name, more := parts[1], parts[2:]
	var reason db.Reason
	switch strings.ToLower(name) {
	case "holdinstruction":
		if len(more) == 0 || more[0] == "" {
			return time.Time{}, 0, fmt.Errorf("reason %s: lacks the instruction", syntax.Quote([]byte(name)))
		}
		return at, db.ReasonCertificateHold, nil
	case "keytime":
		reason = db.ReasonKeyCompromise
	case "cakeytime":
		reason = db.ReasonCACompromise
	case "removefromcrl":
		return time.Time{}, 0, errors.New(`reason "removeFromCRL": is no revocation (RFC 5280 section 5.3.1)`)
	case "":
		return time.Time{}, 0, errors.New("reason is empty")
	default:
		if reason, err = db.ParseReason(name); err != nil {
			return time.Time{}, 0, fmt.Errorf("reason %s: is none of RFC 5280's", syntax.Quote([]byte(name)))
		}
		if len(more) > 0 {
			return time.Time{}, 0, fmt.Errorf("reason %s: is followed by %s", syntax.Quote([]byte(name)), syntax.Quote([]byte(more[0])))
		}
		return at, reason, nil
	}
	if len(more) == 0 {
		return time.Time{}, 0, fmt.Errorf("reason %s: lacks the time of the compromise", syntax.Quote([]byte(name)))
	}
	if _, err := parseTime([]byte(more[0])); err != nil {
		return time.Time{}, 0, fmt.Errorf("reason %s: time of the compromise %w", syntax.Quote([]byte(name)), err)
	}
	return at, reason, nil
}
