package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
)

const (
	// firstFew is how many faults or differences are listed; all are counted.
	firstFew = 20
	// batchRows is how many rows one transaction takes: 5,000 rows keep the
	// head's lock for well under 0.1 s, so that an urgent revocation does not
	// wait behind an import.
	batchRows = 5000
)

// earliest is the first time that the table takes: zero dates are never real.
var earliest = time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)

// Faults is the error of a file with bad rows: none of it is imported.
type Faults struct {
	File  string
	Count int64
	First []Note // by place, 20 at most

	places []int64 // order of First within the file
}

// Error returns one line "file:place: problem" per fault listed, and the count.
func (f *Faults) Error() string {
	var b strings.Builder
	for _, fault := range f.First {
		fmt.Fprintf(&b, "%s:%s: %s\n", f.File, fault.Place, fault.Text)
	}
	fmt.Fprintf(&b, "%d bad rows in %s: nothing was imported", f.Count, f.File)
	return b.String()
}

// add keeps the first few in the file's order; place is the entry's number.
func (f *Faults) add(place int64, note Note) {
	f.Count++
	at, _ := slices.BinarySearch(f.places, place+1)
	f.places = slices.Insert(f.places, at, place)
	f.First = slices.Insert(f.First, at, note)
	f.places, f.First = f.places[:min(len(f.places), firstFew)], f.First[:min(len(f.First), firstFew)]
}

// CRL is what a revocation list says of itself.
type CRL struct {
	Number     *big.Int // nil: none
	ThisUpdate time.Time
	NextUpdate time.Time // zero: none
}

// File is a source whose every row was judged good. The rows lie at the master, staged:
// what becomes of the file from then on has no effect.
type File struct {
	Name     string // base name
	SHA256   [sha256.Size]byte
	Rows     int64            // different ones
	Repeated int64            // entries that say once more what an earlier one said
	Pending  int64            // rows that the source was asked to revoke and has not
	Skipped  map[string]int64 // entries passed over, by reason
	Notes    []Note           // the first 20 of the pending and of the skipped
	CRL      *CRL             // nil: it is no CRL

	options Options
	size    int64 // of the file, in octets; 0: a directory
	last    int64 // number of the last row
	rows    *db.Staging
}

// Open reads the file once, stages its rows at the master and judges all of them. Bad
// rows are reported as *Faults. The caller closes the File.
func Open(ctx context.Context, store *db.Store, path string, options Options) (*File, error) {
	maker := makers[options.Form]
	if maker == nil {
		return nil, fmt.Errorf("reading %s: no form %q: want one of %s", path, options.Form, strings.Join(Forms(), ", "))
	}
	if options.Location == nil {
		options.Location = time.UTC
	}
	f := &File{Name: filepath.Base(path), Skipped: map[string]int64{}, options: options}
	in, err := f.open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	form, err := maker(&f.options, f)
	if err != nil {
		return nil, fmt.Errorf("reading %s as %s: %w", path, options.Form, err)
	}
	if f.rows, err = store.Stage(ctx, options.Issuer.ID); err != nil {
		return nil, err
	}
	if err := f.judge(ctx, path, form, in); err != nil {
		f.Close()
		if faults := (*Faults)(nil); !errors.As(err, &faults) {
			err = fmt.Errorf("reading %s as %s: %w", path, options.Form, err)
		}
		return nil, err
	}
	return f, nil
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
			tar, err = newTarOf(path)
			return io.NopCloser(tar), err
		}
		return nil, err
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: want a regular file", path)
	default:
		f.size = info.Size()
		return file, nil
	}
	return nil, errors.Join(err, file.Close())
}

// Close lets the staged rows go.
func (f *File) Close() { f.rows.Close(context.Background()) }

// sum returns the file's SHA-256 as hex.
func (f *File) sum() string { return hex.EncodeToString(f.SHA256[:]) }

// parts calls do with the rows of the file in order, batchRows of them at most.
func (f *File) parts(do func(number int64, part db.Part) error) error {
	for number := int64(1); (number-1)*batchRows < f.last; number++ {
		part := db.Part{After: (number - 1) * batchRows, Last: min(number*batchRows, f.last), End: f.options.NotAfter}
		if err := do(number, part); err != nil {
			return err
		}
	}
	return nil
}
