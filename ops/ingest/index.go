package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
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

// ErrChanged says that the file is not the one that was judged.
var ErrChanged = errors.New("the file changed while it was read")

// Fault is one bad line.
type Fault struct {
	Line    int64
	Problem string
}

// Faults is the error of a file with bad lines: none of it is imported.
type Faults struct {
	File  string
	Count int64
	First []Fault // by line, 20 at most
}

// Error returns one line "file:line: problem" per fault listed, and the count.
func (f *Faults) Error() string {
	var b strings.Builder
	for _, fault := range f.First {
		fmt.Fprintf(&b, "%s:%d: %s\n", f.File, fault.Line, fault.Problem)
	}
	fmt.Fprintf(&b, "%d bad rows in %s: nothing was imported", f.Count, f.File)
	return b.String()
}

// Rules are what a row is judged by beyond its form.
type Rules struct {
	Now time.Time // revocations over 5 min after it are refused
	// Profile br refuses certificateHold (BR section 4.9.13).
	Profile db.Profile
}

// Index is an openssl index.txt whose every row was judged good.
type Index struct {
	Name     string // base name of the file
	SHA256   [sha256.Size]byte
	Rows     int64 // different ones
	Repeated int64 // lines that say once more what an earlier one said

	file  *os.File // open all the time: replacing the file by another has no effect
	rules Rules
	// sums are those of the file up to each batchRows-th row and to its end, so
	// that no batch is written from octets that were not judged.
	sums [][sha256.Size]byte
	// repeated are the lines to pass over.
	repeated map[int64]struct{}
}

// OpenIndex opens the file and judges all of it. Bad rows are reported as
// *Faults. The caller closes the Index.
func OpenIndex(ctx context.Context, path string, rules Rules) (*Index, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the index: %w", err)
	}
	x := &Index{Name: filepath.Base(path), file: file, rules: rules, repeated: map[int64]struct{}{}}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("want a regular file: it is read several times")
	}
	if err == nil {
		err = x.judge(ctx, path)
	}
	if err == nil {
		return x, nil
	}
	if faults := (*Faults)(nil); errors.As(err, &faults) {
		return nil, errors.Join(err, file.Close())
	}
	return nil, errors.Join(fmt.Errorf("reading the index %s: %w", path, err), file.Close())
}

// Close closes the file.
func (x *Index) Close() error { return x.file.Close() }

// judge reads all rows and looks for what is wrong with each and for serials
// that stand twice.
func (x *Index) judge(ctx context.Context, path string) error {
	faults := &Faults{File: path}
	seed := maphash.MakeSeed()
	var marks []uint64 // one per row: of its serial
	err := x.pass(ctx, func(_ *scanner, _ int64, row db.Row) error {
		marks = append(marks, maphash.Bytes(seed, row.Serial))
		return nil
	}, func(line int64, problem string) { faults.add(line, problem) }, func(s *scanner) {
		x.sums = append(x.sums, s.total())
	})
	if err != nil {
		return err
	}
	x.SHA256 = x.sums[len(x.sums)-1]
	x.Rows = int64(len(marks))
	if twice := repeats(marks); len(twice) > 0 {
		if err := x.judgeRepeats(ctx, seed, twice, faults); err != nil {
			return err
		}
	}
	if faults.Count > 0 {
		faults.sort()
		return faults
	}
	return nil
}

// repeats returns the values that stand in marks more than once. It sorts marks.
func repeats(marks []uint64) map[uint64]struct{} {
	twice := map[uint64]struct{}{}
	slices.Sort(marks)
	for i := 1; i < len(marks); i++ {
		if marks[i] == marks[i-1] {
			twice[marks[i]] = struct{}{}
		}
	}
	return twice
}

// judgeRepeats reads once more and compares the rows of one serial: the same
// again is a note, anything else a fault.
func (x *Index) judgeRepeats(ctx context.Context, seed maphash.Seed, twice map[uint64]struct{}, faults *Faults) error {
	type place struct {
		line   int64
		status db.Status
	}
	first := map[string]place{}
	return x.pass(ctx, func(_ *scanner, line int64, row db.Row) error {
		if _, suspect := twice[maphash.Bytes(seed, row.Serial)]; !suspect {
			return nil
		}
		before, seen := first[string(row.Serial)]
		switch {
		case !seen:
			first[string(row.Serial)] = place{line, row.Status}
		case before.status == row.Status:
			x.repeated[line] = struct{}{}
			x.Repeated++
			x.Rows--
		default:
			faults.add(line, fmt.Sprintf("serial %s stands in line %d already, and says something else", row.Serial, before.line))
		}
		return nil
	}, func(int64, string) {}, nil)
}

// pass reads the file from its start: good gets each good row, bad each bad
// one. mark, if not nil, is called after each batchRows good rows and at the end.
func (x *Index) pass(ctx context.Context, good func(*scanner, int64, db.Row) error, bad func(int64, string), mark func(*scanner)) error {
	if _, err := x.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s := newScanner(x.file)
	rows := 0
	err := s.scan(ctx, func(line []byte, problem string) error {
		var row db.Row
		var err error
		if problem == "" {
			if row, err = x.parse(line); err != nil {
				problem = err.Error()
			}
		}
		if problem != "" {
			bad(s.line, problem)
			return nil
		}
		if err := good(s, s.line, row); err != nil {
			return err
		}
		if rows++; rows%batchRows == 0 && mark != nil {
			mark(s)
		}
		return nil
	})
	if err == nil && mark != nil {
		mark(s)
	}
	return err
}

func (x *Index) parse(line []byte) (db.Row, error) {
	row, err := parseIndexLine(line, x.rules.Now)
	if err == nil && x.rules.Profile == db.ProfileBR && row.Status.Reason == db.ReasonCertificateHold {
		err = errors.New("is on hold: the profile br forbids certificateHold (BR section 4.9.13)")
	}
	return row, err
}

func (f *Faults) add(line int64, problem string) {
	f.Count++
	f.First = append(f.First, Fault{line, problem})
	if len(f.First) > firstFew {
		f.sort()
		f.First = f.First[:firstFew]
	}
}

func (f *Faults) sort() {
	slices.SortStableFunc(f.First, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
}

// sum returns the file's SHA-256 as hex.
func (x *Index) sum() string { return hex.EncodeToString(x.SHA256[:]) }

// located is a row and its line.
type located struct {
	line int64
	row  db.Row
}

// batches calls do with the rows of the file in order, batchRows of them at
// most, repeated lines left out, once it is sure that they are the judged ones.
func (x *Index) batches(ctx context.Context, do func(number int64, batch []located) error) error {
	batch := make([]located, 0, min(x.Rows, batchRows))
	number := int64(0)
	var failed error
	flush := func(s *scanner) {
		switch number++; {
		case failed != nil:
		case number > int64(len(x.sums)) || s.total() != x.sums[number-1]:
			failed = ErrChanged
		case len(batch) > 0:
			failed = do(number, batch)
		}
		batch = batch[:0]
	}
	err := x.pass(ctx, func(_ *scanner, line int64, row db.Row) error {
		if failed != nil {
			return failed
		}
		if _, repeated := x.repeated[line]; !repeated {
			batch = append(batch, located{line, row})
		}
		return nil
	}, func(int64, string) { failed = ErrChanged }, flush)
	return cmp.Or(err, failed)
}
