package ingest

import (
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// form reads one kind of file.
type form interface {
	// read emits, in order and from the beginning, all entries of the file. An error of its own
	// means that the file cannot be read as a whole.
	read(in io.Reader, emit func(entry) error) error
}

// ender is a form that decides some entries only after all files are read.
type ender interface {
	end(emit func(entry) error) error
}

// entry is one statement of a file.
type entry struct {
	place   syntax.Place
	row     masterdb.Row
	problem string // not empty: it is bad, and nothing of the file is imported
	skip    string // not empty: it is not for this import, with the reason
	pending bool   // a revocation was requested from the source and not made
	unsure  bool   // the row does not show its issuer: the form decides at the end
	odd     bool   // the problem concerns only this entry: SkipBad leaves it out
	taken   bool   // or imports it, since it is still a revocation
}

// bad is an entry with a problem.
func bad(place syntax.Place, format string, args ...any) entry {
	return entry{place: place, problem: fmt.Sprintf(format, args...)}
}

// eachRow emits the entry that do makes of each record of a table.
func eachRow(in io.Reader, emit func(entry) error, wanted []string, do func(syntax.Record) entry) error {
	return syntax.EachRecord(in, wanted, func(r syntax.Record, place syntax.Place, problem string) error {
		e := entry{problem: problem}
		if problem == "" {
			e = do(r)
		}
		e.place = place
		return emit(e)
	})
}

// Why an entry is skipped.
const (
	skipOtherIssuer = "another issuer's"
	skipOwn         = "the issuer's own certificate"
	skipUnsigned    = "not issued yet: no serial"
	skipNoFile      = "no regular file"
	skipOldHold     = "on hold in an older CRL"
	skipNoCert      = "holds no certificate"
)

// Kind says what a note is about.
type Kind string

// The kinds of notes.
const (
	KindBad      Kind = "bad"      // the row cannot be imported, so nothing is (with SkipBad the others are)
	KindSkipped  Kind = "skipped"  // the row is not for this import
	KindPending  Kind = "pending"  // a revocation was requested there and not made
	KindConflict Kind = "conflict" // the master has it otherwise and keeps that
)

// Note is one row that is not imported as it is in the file.
type Note struct {
	Kind  Kind
	Place syntax.Place
	Text  string
}

// Options say how a file is read and checked.
type Options struct {
	Form   string // one of Forms
	Issuer db.Issuer
	Now    time.Time // a CRL made more than db.MaxClockSkew after it is refused
	// NotAfter is the end for certificates that the master does not know and whose end the
	// source does not contain (a CRL). Zero: they are left out.
	NotAfter time.Time
	// Location is the time zone of times without one (CAcert, CFSSL). Nil: UTC.
	Location *time.Location
	// RootCert selects by CAcert's column rootcert: 1 class 1, 2 class 3. Zero if the file has
	// no such column.
	RootCert int
	// SerialBase is the number base of EJBCA's serials: 10 (also for zero) or 16.
	SerialBase int
	// Fingerprints are SHA-1 fingerprints, in lower-case hex, of other certificates of the
	// issuer's key, under which EJBCA keeps rows.
	Fingerprints []string
	// SkipBad leaves odd entries of CRLs out: they are counted and listed.
	SkipBad bool
	// LastCRLs are the numbers of the newest CRLs imported before, by shard; older ones
	// are refused.
	LastCRLs map[string]*big.Int
	// Note, if not nil, is called for each row that is not imported as it is in the file.
	Note func(Note)
	// Progress, if not nil, is called with the progress of the checks, in octets.
	Progress func(Progress)
}

// makers make a form. A form may keep f, to report facts that only the form knows.
var makers = map[string]func(o *Options, f *File) (form, error){
	"openssl-index": func(*Options, *File) (form, error) { return indexForm{}, nil },
	"crl":           newCRLForm,
	"csv":           func(o *Options, _ *File) (form, error) { return csvForm{o.Issuer.Name}, nil },
	"ndjson":        func(o *Options, _ *File) (form, error) { return ndjsonForm{o.Issuer.Name}, nil },
	"cacert":        func(o *Options, _ *File) (form, error) { return cacertForm{o.RootCert, o.Location}, nil },
	"cfssl":         newCFSSLForm,
	"ejbca":         newEJBCAForm,
	"step-ca":       newStepForm,
	"certificates":  newCertificateForm,
}

// Forms lists the names of all forms.
func Forms() []string {
	names := make([]string, 0, len(makers))
	for name := range makers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
