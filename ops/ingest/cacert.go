package ingest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// cacertForm is one of CAcert's tables of certificates, as written by mysql --batch, by a CSV
// export or by mysqldump. Names and addresses in it are not read.
type cacertForm struct {
	root int // the column rootcert: 1 class 1, 2 class 3; 0: there is no such column
	zone *time.Location
}

// cacertTables hold X.509 certificates; the table gpg does not.
var cacertTables = map[string]bool{"emailcerts": true, "domaincerts": true, "orgemailcerts": true, "orgdomaincerts": true}

var cacertColumns = []string{"serial", "expire", "revoked"}

// cacertPending is the value that CAcert's pages write into the column revoked to request a
// revocation from the signer. It is not a time, in any zone.
const cacertPending = "1970-01-01 10:00:01"

func (f cacertForm) read(in io.Reader, emit func(entry) error) error {
	b := bufio.NewReaderSize(in, syntax.MaxLine)
	start, err := b.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !syntax.IsDump(start) {
		return eachRow(b, emit, cacertColumns, f.entry)
	}
	seen := false
	line, err := syntax.ReadDump(b, func(table string, r syntax.Record, place syntax.Place) error {
		if !cacertTables[table] {
			return nil
		}
		seen = true
		if !r.Named() {
			return &syntax.SQLError{Text: "inserts into " + table + ", whose columns it does not tell: want a dump with CREATE TABLE, or by mysqldump --complete-insert"}
		}
		for _, name := range cacertColumns {
			if !r.Has(name) {
				return &syntax.SQLError{Text: "inserts into " + table + " without the column " + name}
			}
		}
		e := f.entry(r)
		e.place = place
		return emit(e)
	})
	var sql *syntax.SQLError
	switch {
	case errors.As(err, &sql):
		return emit(bad(syntax.Place{Line: line}, "%s", sql.Text))
	case errors.Is(err, syntax.ErrCut):
		return emit(bad(syntax.Place{Line: line}, "is cut short: the dump ends too early"))
	case err == nil && !seen:
		return fmt.Errorf("the dump has no row of %s: is it the right one?", strings.Join(slices.Sorted(maps.Keys(cacertTables)), ", "))
	}
	return err
}

// entry reads one row. CAcert makes the row before it signs the certificate, so the serial may
// still be missing.
func (f cacertForm) entry(r syntax.Record) entry {
	if e, done := f.otherRoot(r); done {
		return e
	}
	text := r.Get("serial")
	if isNull(text) {
		return entry{skip: skipUnsigned}
	}
	serial, err := parseSerial(text)
	if err != nil {
		return entry{problem: err.Error()}
	}
	e := entry{row: masterdb.Row{Serial: serial, Status: db.Status{Reason: db.ReasonNone}}}
	if e.row.Status.NotAfter, err = parseStamp(r.Get("expire"), f.zone); err != nil {
		return entry{problem: "expire " + err.Error()}
	}
	switch revoked := r.Get("revoked"); {
	case isNull(revoked):
	case revoked == cacertPending:
		e.pending = true
	default:
		e.row.Status.Revoked = true
		if e.row.Status.RevokedAt, err = parseStamp(revoked, f.zone); err != nil {
			return entry{problem: "revoked " + err.Error()}
		}
	}
	return e
}

// otherRoot says whether a row belongs to the root that was not selected.
func (f cacertForm) otherRoot(r syntax.Record) (entry, bool) {
	_, there := r.Columns["rootcert"]
	root := r.Get("rootcert")
	switch {
	case there && f.root == 0:
		return entry{problem: "has the column rootcert: say which one this issuer is (--rootcert 1 for class 1, 2 for class 3)"}, true
	case !there && f.root != 0:
		return entry{problem: "has no column rootcert, by which --rootcert could choose"}, true
	case there && root != "1" && root != "2":
		return entry{problem: fmt.Sprintf("rootcert %s: want 1 or 2", syntax.Quote([]byte(root)))}, true
	case there && root != strconv.Itoa(f.root):
		return entry{skip: skipOtherIssuer}, true
	}
	return entry{}, false
}

// isNull says whether a text is MySQL's NULL.
func isNull(text string) bool {
	switch text {
	case "", "0", "NULL", `\N`, "0000-00-00 00:00:00":
		return true
	}
	return false
}
