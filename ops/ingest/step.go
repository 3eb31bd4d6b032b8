package ingest

import (
	"bufio"
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

// stepForm is step-ca's tables x509_certs and revoked_x509_certs: JSON objects, one a line or
// in an array. An object is a revocation as step-ca stores it ({"Serial": ..., "RevokedAt":
// ...}), a certificate ({"Certificate": DER in base64}), or a row of either table in PostgreSQL
// or MySQL ({"nkey": ..., "nvalue": ...}, base64). A certificate and its revocation become one
// row.
type stepForm struct{ certificates certificateForm }

func newStepForm(o *Options, f *File) (form, error) {
	issuer, err := issuerCertificate(o.Issuer)
	return stepForm{certificateForm{issuer, f}}, err
}

func (f stepForm) read(in io.Reader, emit func(entry) error) error {
	b := bufio.NewReaderSize(in, syntax.MaxLine)
	if start, err := b.Peek(1); err == nil && start[0] == '[' {
		return f.readArray(b, emit)
	}
	return syntax.EachLine(b, func(line []byte, place syntax.Place, problem string) error {
		if problem == "" && len(line) == 0 {
			return nil
		}
		e := entry{problem: problem}
		if problem == "" {
			e = f.entry(line)
		}
		e.place = place
		return emit(e)
	})
}

// rationed reads at most left octets; left is then set again.
type rationed struct {
	in   io.Reader
	left int
}

func (r *rationed) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errors.New("an object is longer than 64 KiB")
	}
	n, err := r.in.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

func (f stepForm) readArray(in io.Reader, emit func(entry) error) error {
	ration := &rationed{in, 4 * syntax.MaxLine}
	d := json.NewDecoder(ration)
	if _, err := d.Token(); err != nil {
		return syntax.ErrCut
	}
	number := int64(0)
	for d.More() {
		number++
		var one json.RawMessage
		ration.left = 4 * syntax.MaxLine
		if err := d.Decode(&one); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = errors.New("the array is cut short")
			}
			return emit(bad(syntax.Place{Row: number}, "is no JSON: %v", err))
		}
		e := f.entry(one)
		e.place = syntax.Place{Row: number}
		if err := emit(e); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return syntax.ErrCut
	}
	return nil
}

// stepObject has the fields of all kinds of objects.
type stepObject struct {
	Serial     string
	ReasonCode *int
	RevokedAt  string
	ExpiresAt  string

	Certificate string

	Key   *string `json:"nkey"`
	Value *string `json:"nvalue"`
}

func (f stepForm) entry(text []byte) entry {
	var o stepObject
	if err := json.Unmarshal(text, &o); err != nil {
		return bad(syntax.Place{}, "is no JSON object of step-ca: %v", syntax.Short(strings.ToValidUTF8(err.Error(), "?")))
	}
	switch {
	case o.Value != nil:
		value, err := parseBase64(*o.Value)
		switch {
		case err != nil:
			return bad(syntax.Place{}, "nvalue %v", err)
		case len(value) > 0 && value[0] == '{':
			return f.entry(value)
		}
		return f.certificates.judge(value, syntax.Place{})
	case o.Certificate != "":
		der, err := parseBase64(o.Certificate)
		if err != nil {
			return bad(syntax.Place{}, "Certificate %v", err)
		}
		return f.certificates.judge(der, syntax.Place{})
	case o.RevokedAt != "":
		return o.revoked()
	}
	return bad(syntax.Place{}, "is neither a revocation (Serial, RevokedAt) nor a certificate (Certificate, or nvalue)")
}

// revoked reads a revocation. The zero time means that step-ca did not know the end.
func (o stepObject) revoked() entry {
	row := masterdb.Row{NoEnd: true, Status: db.Status{Revoked: true, Reason: db.ReasonNone}}
	var err error
	if row.Serial, err = parseTyped(o.Serial); err != nil {
		return entry{problem: err.Error()}
	}
	if o.ExpiresAt != "" && !strings.HasPrefix(o.ExpiresAt, "0001-") {
		row.NoEnd = false
		if row.Status.NotAfter, err = parseStamp(o.ExpiresAt, time.UTC); err != nil {
			return entry{problem: "ExpiresAt " + err.Error()}
		}
	}
	if row.Status.RevokedAt, err = parseStamp(o.RevokedAt, time.UTC); err != nil {
		return entry{problem: "RevokedAt " + err.Error()}
	}
	if o.ReasonCode != nil {
		if row.Status.Reason, err = parseCode(fmt.Sprint(*o.ReasonCode)); err != nil {
			return entry{problem: err.Error()}
		}
	}
	return entry{row: row}
}
