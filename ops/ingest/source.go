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
	// read hands on, in order and from the beginning, all that the file states.
	// An error of its own means that the file cannot be read as a whole.
	read(in io.Reader, emit func(entry) error) error
}

// ender is a form that knows some things only when all files are read.
type ender interface {
	end(emit func(entry) error) error
}

// entry is one thing that a file states.
type entry struct {
	place   syntax.Place
	row     masterdb.Row
	problem string // not empty: it is bad, and nothing of the file is imported
	skip    string // not empty: it is not for this import, for this reason
	pending bool   // the source was asked to revoke it and has not
	unsure  bool   // the row does not say whose it is: the form judges it at the end
	odd     bool   // the problem is this entry's alone: SkipBad leaves it out
	taken   bool   // or takes it, since it is a revocation all the same
}

// bad is an entry with a problem.
func bad(place syntax.Place, format string, args ...any) entry {
	return entry{place: place, problem: fmt.Sprintf(format, args...)}
}

// eachRow hands on what each record of a table states.
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

// Why an entry is passed over.
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
	KindBad      Kind = "bad"      // the row cannot be imported, and so nothing is (SkipBad: the others are)
	KindSkipped  Kind = "skipped"  // the row is not for this import
	KindPending  Kind = "pending"  // a revocation was asked for there and not done
	KindConflict Kind = "conflict" // the master knows it otherwise and keeps that
)

// Note is one row that does not come to the master as the file has it.
type Note struct {
	Kind  Kind
	Place syntax.Place
	Text  string
}

// Options are what a file is read and judged by.
type Options struct {
	Form   string // one of Forms
	Issuer db.Issuer
	Now    time.Time // a CRL that was made over db.MaxClockSkew after it is refused
	// NotAfter is the end given to certificates that the master does not know
	// and whose end the source does not tell (a CRL). Zero: they are left out.
	NotAfter time.Time
	// Location is the time zone of times that name none (CAcert, CFSSL). Nil: UTC.
	Location *time.Location
	// RootCert selects by CAcert's column rootcert: 1 class 1, 2 class 3. Zero
	// where the file has no such column.
	RootCert int
	// SerialBase is how EJBCA's serials are written: 10 (zero, too) or 16.
	SerialBase int
	// Fingerprints are SHA-1 fingerprints, in lower-case hex, of other certificates of the
	// issuer's key, under which EJBCA keeps rows.
	Fingerprints []string
	// SkipBad leaves odd entries of CRLs out: they are counted and listed.
	SkipBad bool
	// LastCRLs are the numbers of the newest CRLs imported before, by shard; older ones
	// are refused.
	LastCRLs map[string]*big.Int
	// Note, if not nil, is told of each row that does not come to the master as
	// the file has it.
	Note func(Note)
	// Progress, if not nil, is told how far the judging is, in octets.
	Progress func(Progress)
}

// makers make a form. They may keep f, to tell what only the form can know.
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
