package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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
	// clockSkew is how far in the future a revocation may lie: what the table
	// allows, for a source whose clock is fast.
	clockSkew = 5 * time.Minute
)

// earliest is the first time that the table takes: zero dates are never real.
var earliest = time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)

// ErrChanged says that the file is not the one that was judged.
var ErrChanged = errors.New("the file changed while it was read")

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

// File is a source whose every row was judged good.
type File struct {
	Name     string // base name
	SHA256   [sha256.Size]byte
	Rows     int64            // different ones
	Repeated int64            // entries that say once more what an earlier one said
	Pending  int64            // rows that the source was asked to revoke and has not
	Skipped  map[string]int64 // entries passed over, by reason
	Notes    []Note           // the first 20 of the pending and of the skipped
	CRL      *CRL             // nil: it is no CRL
	// Points are the URLs of distribution points that the CRL, or certificates that are
	// no responder's, name: no CRL of responders may lie there. Sorted, the first 20.
	Points []string

	options Options
	form    form
	size    int64                     // of the file, in octets; 0: a directory
	start   func() (io.Reader, error) // reads the same file from its beginning
	file    *os.File                  // open all the time: replacing the file by another has no effect
	// sums are those of the rows up to each batchRows-th one and to the last, so
	// that no batch is written from rows that were not judged.
	sums [][sha256.Size]byte
	// repeated are the numbers of the rows to pass over; ends are the ends that
	// rows take over from such a one.
	repeated map[int64]struct{}
	ends     map[int64]time.Time
}

// Open opens the file and judges all of it. Bad rows are reported as *Faults.
// The caller closes the File.
func Open(ctx context.Context, path string, options Options) (*File, error) {
	maker := makers[options.Form]
	if maker == nil {
		return nil, fmt.Errorf("reading %s: no form %q: want one of %s", path, options.Form, strings.Join(Forms(), ", "))
	}
	if options.Location == nil {
		options.Location = time.UTC
	}
	f := &File{
		Name: filepath.Base(path), Skipped: map[string]int64{}, options: options,
		repeated: map[int64]struct{}{}, ends: map[int64]time.Time{},
	}
	err := f.open(path)
	if err != nil {
		return nil, err
	}
	if f.form, err = maker(&f.options, f); err == nil {
		err = f.judge(ctx, path)
	}
	if err == nil {
		return f, nil
	}
	if faults := (*Faults)(nil); !errors.As(err, &faults) {
		err = fmt.Errorf("reading %s as %s: %w", path, options.Form, err)
	}
	return nil, errors.Join(err, f.Close())
}

func (f *File) open(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the file to import: %w", err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir() && f.options.Form == "certificates":
		err = file.Close()
		f.start = func() (io.Reader, error) { return newTarOf(path) }
		return err
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s: want a regular file: it is read several times", path)
	default:
		f.file, f.size = file, info.Size()
		f.start = func() (io.Reader, error) {
			_, err := file.Seek(0, io.SeekStart)
			return file, err
		}
		return nil
	}
	return errors.Join(err, file.Close())
}

// saw notes URLs of distribution points.
func (f *File) saw(urls ...string) {
	for _, url := range urls {
		if at, there := slices.BinarySearch(f.Points, url); !there && len(f.Points) < firstFew {
			f.Points = slices.Insert(f.Points, at, url)
		}
	}
}

// Close closes the file.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// visitor gets what a pass finds. A nil function is not called.
type visitor struct {
	in    func(io.Reader) io.Reader         // is given the file to look on
	good  func(number int64, e entry) error // each good row, numbered from 1
	other func(number int64, e entry) error // each bad or skipped entry, and the number of the last row
	mark  func(sum [sha256.Size]byte) error // after each batchRows good rows and at the end: the sum of all so far
}

// pass reads the file from its start.
func (f *File) pass(ctx context.Context, v visitor) error {
	in, err := f.start()
	if err != nil {
		return err
	}
	if v.in != nil {
		in = v.in(in)
	}
	sum := sha256.New()
	entries, rows := int64(0), int64(0)
	err = f.form.read(in, func(e entry) error {
		if entries++; entries%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e.problem == "" && e.skip == "" {
			e.problem = f.options.problemOf(e.row)
		}
		if e.problem != "" || e.skip != "" {
			if v.other != nil {
				return v.other(rows, e)
			}
			return nil
		}
		rows++
		if v.mark != nil {
			addRow(sum, e.row)
		}
		if v.good != nil {
			if err := v.good(rows, e); err != nil {
				return err
			}
		}
		if v.mark != nil && rows%batchRows == 0 {
			return v.mark([sha256.Size]byte(sum.Sum(nil)))
		}
		return nil
	})
	if err == nil && v.mark != nil {
		err = v.mark([sha256.Size]byte(sum.Sum(nil)))
	}
	if err == nil && v.in != nil {
		_, err = io.Copy(io.Discard, in) // what the form did not need is summed, too
	}
	return err
}

// addRow adds all that a row says to a sum.
func addRow(sum hash.Hash, row db.Row) {
	var b [2 + db.MaxSerialLen + 8 + 8 + 1]byte
	b[0] = byte(len(row.Serial))
	if row.Silent {
		b[1] = 1
	}
	n := 2 + copy(b[2:], row.Serial)
	binary.BigEndian.PutUint64(b[n:], uint64(row.Status.NotAfter.Unix()))
	binary.BigEndian.PutUint64(b[n+8:], uint64(row.Status.RevokedAt.Unix()))
	b[n+16] = byte(row.Status.Reason)
	sum.Write(b[:n+17])
}

// sum returns the file's SHA-256 as hex.
func (f *File) sum() string { return hex.EncodeToString(f.SHA256[:]) }

// located is a row and its place.
type located struct {
	place Place
	row   db.Row
}

// batches calls do with the rows of the file in order, batchRows of them at
// most, repeated ones left out, once it is sure that they are the judged ones.
func (f *File) batches(ctx context.Context, do func(number int64, batch []located) error) error {
	batch := make([]located, 0, min(f.Rows, batchRows))
	number := int64(0)
	err := f.pass(ctx, visitor{
		good: func(n int64, e entry) error {
			if _, repeated := f.repeated[n]; repeated {
				return nil
			}
			if end, given := f.ends[n]; given {
				e.row.Status.NotAfter = end
			}
			batch = append(batch, located{e.place, e.row})
			return nil
		},
		other: func(_ int64, e entry) error {
			if e.problem != "" {
				return ErrChanged
			}
			return nil
		},
		mark: func(sum [sha256.Size]byte) error {
			number++
			if number > int64(len(f.sums)) || sum != f.sums[number-1] {
				return ErrChanged
			}
			defer func() { batch = batch[:0] }()
			if len(batch) == 0 {
				return nil
			}
			return do(number, batch)
		},
	})
	if err == nil && number != int64(len(f.sums)) {
		err = ErrChanged
	}
	return err
}
