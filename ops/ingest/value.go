package ingest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/ops/ingest/syntax"
)

// parseSerial reads a serial in hexadecimal digits, as openssl prints it.
func parseSerial(text string) (db.Serial, error) {
	const digits = "0123456789abcdefABCDEF"
	magnitude, negative := strings.CutPrefix(text, "-")
	switch {
	case magnitude == "" || strings.Trim(magnitude, digits) != "":
		return nil, fmt.Errorf("serial %s: want hexadecimal digits", syntax.Quote([]byte(text)))
	case negative:
		return nil, fmt.Errorf("serial %s: is negative (RFC 5280 section 4.1.2.2)", syntax.Quote([]byte(text)))
	}
	serial, err := db.ParseSerial(magnitude)
	if err != nil {
		return nil, err
	}
	return serial, serial.Check()
}

// maxDecimal is more digits than any serial of 20 octets has: 2^159 has 48.
const maxDecimal = 64

// parseDecimal reads a serial in decimal digits.
func parseDecimal(text string) (db.Serial, error) {
	magnitude, negative := strings.CutPrefix(text, "-")
	if magnitude == "" || len(magnitude) > maxDecimal || strings.Trim(magnitude, "0123456789") != "" {
		return nil, fmt.Errorf("serial %s: want at most %d decimal digits", syntax.Quote([]byte(text)), maxDecimal)
	}
	if negative {
		return nil, fmt.Errorf("serial %s: is negative (RFC 5280 section 4.1.2.2)", syntax.Quote([]byte(text)))
	}
	n, ok := new(big.Int).SetString(magnitude, 10)
	if !ok {
		return nil, fmt.Errorf("serial %s: want decimal digits", syntax.Quote([]byte(text)))
	}
	serial := db.SerialFromMagnitude(n.Bytes(), false)
	return serial, serial.Check()
}

// parseTyped reads a serial of step-ca's revocations, as a person typed it: with digits only it
// is decimal, as in step-ca; with the prefix 0x, a colon or a digit from a to f it is
// hexadecimal.
func parseTyped(text string) (db.Serial, error) {
	digits, marked := strings.CutPrefix(strings.ToLower(strings.TrimSpace(text)), "0x")
	if bare := strings.ReplaceAll(digits, ":", ""); (marked || strings.ContainsAny(digits, "abcdef:")) && bare != "" && strings.Trim(bare, "0123456789abcdef") == "" {
		return parseSerial(bare)
	}
	serial, err := parseDecimal(text)
	if err != nil && strings.Trim(text, "-0123456789") != "" {
		return nil, fmt.Errorf("serial %s: is no number, and so revokes nothing there: revoke by serial what was meant, and leave this row out", syntax.Quote([]byte(text)))
	}
	return serial, err
}

// parseStamp reads a time as databases write it: with its zone, or in zone. Fractions are cut
// off: the table has whole seconds.
func parseStamp(text string, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05 -0700 MST"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: want a time such as 2026-11-22 15:04:05", syntax.Quote([]byte(text)))
}

// parseMillis reads a time in milliseconds since 1970.
func parseMillis(text string) (time.Time, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n >= int64(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()) {
		return time.Time{}, fmt.Errorf("%s: want milliseconds since 1970", syntax.Quote([]byte(text)))
	}
	return time.UnixMilli(n).UTC().Truncate(time.Second), nil
}

// parseCode reads a CRLReason as a number (RFC 5280 section 5.3.1).
func parseCode(text string) (db.Reason, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 0 || n > 10 || n == 7:
		return 0, fmt.Errorf("reason %s: is none of RFC 5280's numbers", syntax.Quote([]byte(text)))
	case n == 8:
		return 0, fmt.Errorf("reason %s (removeFromCRL): is no revocation (RFC 5280 section 5.3.1)", syntax.Quote([]byte(text)))
	case n == 0:
		return db.ReasonNone, nil // RFC 5280: unspecified should be absent
	}
	return db.Reason(n), nil
}

// parseBase64 reads base64 with any white space in it, since databases wrap it.
func parseBase64(text string) ([]byte, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, errors.New("is no base64")
	}
	return der, nil
}
