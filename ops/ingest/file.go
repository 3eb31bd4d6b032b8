package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

const (
	// firstFew is how many faults or differences are listed; all are counted.
	firstFew = 20
	// batchRows is how many rows one transaction writes: 5,000 rows hold the head's lock for
	// well under 0.1 s, so that an urgent revocation does not wait for an import.
	batchRows = 5000
)

// earliest is the earliest time that the table accepts: zero dates are never real.
var earliest = time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)

// Faults is the error of a file with bad rows; nothing of it is imported.
type Faults struct {
	File  string
	Count int64
	First []Note // by place, 20 at most

	places []int64 // order of First within the file
	odd    int64   // those that SkipBad would leave out
}

// Error returns one line "file:place: problem" per fault listed, and the count.
func (f *Faults) Error() string {
	var b strings.Builder
	for _, fault := range f.First {
		fmt.Fprintf(&b, "%s:%s: %s\n", f.File, fault.Place, fault.Text)
	}
	fmt.Fprintf(&b, "%d bad rows in %s: nothing was imported", f.Count, f.File)
	if f.odd == f.Count {
		b.WriteString(" (--skip-bad takes the others)")
	}
	return b.String()
}

// add keeps the first few in the file's order; place is the entry's number.
func (f *Faults) add(place int64, note Note, odd bool) {
	f.Count++
	if odd {
		f.odd++
	}
	at, _ := slices.BinarySearch(f.places, place+1)
	f.places = slices.Insert(f.places, at, place)
	f.First = slices.Insert(f.First, at, note)
	f.places, f.First = f.places[:min(len(f.places), firstFew)], f.First[:min(len(f.First), firstFew)]
}

// File is a source whose rows were all found good. The rows are staged at the master: later
// changes of the file have no effect.
type File struct {
	Name     string // base name
	SHA256   [sha256.Size]byte
	Rows     int64            // distinct ones
	Repeated int64            // entries that repeat an earlier one
	Pending  int64            // rows with a revocation that was requested and not made
	Skipped  map[string]int64 // entries skipped, by reason
	Bad      int64            // entries that SkipBad left out, or imported in part
	Notes    []Note           // the first 20 of the pending, the skipped and the bad
	CRLs     []CRL            // by shard and number; none: not a CRL
	Warnings []string
	// Points are the URLs of distribution points in the CRL, or in certificates that are not a
	// responder's: no CRL of responders may use them. Sorted, the first 20.
	Points []string

	options Options
	reading string // base name of the file that is being read
	size    int64  // of the files, in octets; 0: a directory
	last    int64  // number of the last row
	rows    *masterdb.Staging
}

// Open reads the file once, stages its rows at the master and checks all of them. Bad rows are
// returned as *Faults. Several files are one source; only CRLs may be several. The caller
// closes the File.
func Open(ctx context.Context, store *masterdb.DB, paths []string, options Options) (*File, error) {
	maker := makers[options.Form]
	if maker == nil {
		return nil, fmt.Errorf("no form %q: want one of %s", options.Form, strings.Join(Forms(), ", "))
	}
	if options.Location == nil {
		options.Location = time.UTC
	}
	if len(paths) != 1 && options.Form != "crl" {
		return nil, fmt.Errorf("importing %d files as %s: want one (several: crl alone)", len(paths), options.Form)
	}
	f := &File{Name: filepath.Base(paths[0]), Skipped: map[string]int64{}, options: options}
	if len(paths) > 1 {
		f.Name += fmt.Sprintf(" and %d more", len(paths)-1)
	}
	var files []source
	defer func() {
		for _, file := range files {
			_ = file.Close() // it was only read
		}
	}()
	for _, path := range paths {
		in, err := f.open(path)
		if err != nil {
			return nil, err
		}
		files = append(files, source{in, path})
	}
	form, err := maker(&f.options, f)
	if err != nil {
		return nil, fmt.Errorf("reading %s as %s: %w", f.Name, options.Form, err)
	}
	if f.rows, err = store.Stage(ctx, options.Issuer.ID); err != nil {
		return nil, err
	}
	if err := f.judge(ctx, form, files); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// source is one file to read.
type source struct {
	io.ReadCloser
	path string
}

func (f *File) open(path string) (io.ReadCloser, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the file to import: %w", err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir() && f.options.Form == "certificates":
		if err = file.Close(); err == nil {
			var tar io.Reader
			tar, err = syntax.TarOf(path)
			return io.NopCloser(tar), err
		}
		return nil, err
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: want a regular file", path)
	default:
		if info.Size() == 0 {
			err = fmt.Errorf("reading %s as %s: it is empty", path, f.options.Form)
			break
		}
		f.size += info.Size()
		return file, nil
	}
	return nil, errors.Join(err, file.Close())
}

// saw collects URLs of distribution points.
func (f *File) saw(urls ...string) {
	for _, url := range urls {
		if at, there := slices.BinarySearch(f.Points, url); !there && len(f.Points) < firstFew {
			f.Points = slices.Insert(f.Points, at, url)
		}
	}
}

// Close deletes the staged rows.
func (f *File) Close() { f.rows.Close(context.Background()) }

// sum returns the file's SHA-256 as hex.
func (f *File) sum() string { return hex.EncodeToString(f.SHA256[:]) }

// parts calls do with the rows of the file in order, at most batchRows at a time.
func (f *File) parts(do func(number int64, part masterdb.Part) error) error {
	for number := int64(1); (number-1)*batchRows < f.last; number++ {
		part := masterdb.Part{After: (number - 1) * batchRows, Last: min(number*batchRows, f.last), End: f.options.NotAfter}
		if err := do(number, part); err != nil {
			return err
		}
	}
	return nil
}
