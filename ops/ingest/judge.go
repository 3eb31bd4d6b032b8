package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"time"

	"ocspfleet/db"
)

const (
	// marksAtOnce bounds the memory in which repeated serials are looked for:
	// 4 M marks of 8 octets are 32 MB. A longer file is read once more for each
	// further part of the marks.
	marksAtOnce = 4 << 20
	// maxRepeated bounds what is remembered of repeated rows: about 40 MB.
	maxRepeated = 200_000
)

// judge reads all rows and looks for what is wrong with each and for serials
// that stand twice.
func (f *File) judge(ctx context.Context, path string) error {
	faults := &Faults{File: path}
	total := sha256.New()
	watch := watch("octets", f.size, f.options.Progress)
	seed := maphash.MakeSeed()
	w := window{limit: marksAtOnce, high: math.MaxUint64}
	err := f.pass(ctx, visitor{
		in: func(in io.Reader) io.Reader {
			return io.TeeReader(in, writerFunc(func(p []byte) { total.Write(p); watch(len(p)) }))
		},
		good: func(_ int64, e entry) error {
			f.Rows++
			if e.pending {
				f.Pending++
				f.note(Note{KindPending, e.place, fmt.Sprintf("serial %s: its revocation was asked for and not done: imported as not revoked", e.row.Serial)})
			}
			return w.add(maphash.Bytes(seed, e.row.Serial))
		},
		other: func(n int64, e entry) error {
			if e.problem != "" {
				faults.add(n, f.tell(Note{KindBad, e.place, e.problem}))
				return nil
			}
			f.Skipped[e.skip]++
			f.note(Note{KindSkipped, e.place, e.skip})
			return nil
		},
		mark: func(sum [sha256.Size]byte) error {
			f.sums = append(f.sums, sum)
			return nil
		},
	})
	if err != nil {
		return err
	}
	f.SHA256 = [sha256.Size]byte(total.Sum(nil))
	if err := f.judgeRepeats(ctx, seed, w, faults); err != nil {
		return err
	}
	if faults.Count > 0 {
		return faults
	}
	if others := f.Skipped[skipOtherIssuer]; f.Rows == 0 && others > 0 {
		return fmt.Errorf("none of its certificates is of issuer %q (%d of other issuers): is it the right file?", f.options.Issuer.Name, others)
	}
	return nil
}

type writerFunc func([]byte)

func (w writerFunc) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// tell passes a note on.
func (f *File) tell(n Note) Note {
	if f.options.Note != nil {
		f.options.Note(n)
	}
	return n
}

// note passes a note on and keeps the first few.
func (f *File) note(n Note) {
	f.tell(n)
	if len(f.Notes) < firstFew {
		f.Notes = append(f.Notes, n)
	}
}

// window collects the marks from low to high. When they become too many it
// gives up the upper half, for a later pass.
type window struct {
	low, high uint64
	limit     int
	marks     []uint64
}

var errRepeated = fmt.Errorf("over %d rows stand in it more than once: remove the repeated ones (sort -u)", maxRepeated)

func (w *window) add(mark uint64) error {
	if mark < w.low || mark > w.high {
		return nil
	}
	if w.marks = append(w.marks, mark); len(w.marks) <= w.limit {
		return nil
	}
	slices.Sort(w.marks)
	middle := w.marks[len(w.marks)/2]
	if middle == w.low {
		return errRepeated
	}
	w.high = middle - 1
	place, _ := slices.BinarySearch(w.marks, middle)
	w.marks = w.marks[:place]
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

// judgeRepeats looks for serials that stand twice, one window of marks after the
// other.
func (f *File) judgeRepeats(ctx context.Context, seed maphash.Seed, w window, faults *Faults) error {
	for {
		if twice := repeats(w.marks); len(twice) > maxRepeated {
			return errRepeated
		} else if len(twice) > 0 {
			if err := f.compareRepeats(ctx, seed, twice, faults); err != nil {
				return err
			}
		}
		if w.high == math.MaxUint64 {
			return nil
		}
		w = window{limit: w.limit, low: w.high + 1, high: math.MaxUint64, marks: w.marks[:0]}
		err := f.pass(ctx, visitor{good: func(_ int64, e entry) error { return w.add(maphash.Bytes(seed, e.row.Serial)) }})
		if err != nil {
			return err
		}
	}
}

// compareRepeats reads once more and compares the rows of one serial: the same
// again is a note, a certificate and its revocation become one row, anything
// else is a fault.
func (f *File) compareRepeats(ctx context.Context, seed maphash.Seed, twice map[uint64]struct{}, faults *Faults) error {
	type seen struct {
		number int64
		place  Place
		row    db.Row
	}
	first := map[string]seen{}
	return f.pass(ctx, visitor{good: func(n int64, e entry) error {
		if _, suspect := twice[maphash.Bytes(seed, e.row.Serial)]; !suspect {
			return nil
		}
		before, again := first[string(e.row.Serial)]
		if !again {
			first[string(e.row.Serial)] = seen{n, e.place, e.row}
			return nil
		}
		kept, over, agreed := before, n, true
		switch {
		case sameRow(before.row, e.row):
		case !sameEnd(before.row, e.row) || before.row.Silent == e.row.Silent:
			agreed = false
		case before.row.Silent:
			kept, over = seen{n, e.place, e.row}, before.number
			fallthrough
		default:
			if kept.row.Status.NotAfter.IsZero() {
				kept.row.Status.NotAfter = anEnd(before.row, e.row)
				f.ends[kept.number] = kept.row.Status.NotAfter
			}
		}
		if !agreed {
			where := "line " + before.place.String()
			if before.place.Name != "" || before.place.Row > 0 {
				where = before.place.String()
			}
			faults.add(n-1, f.tell(Note{KindBad, e.place, fmt.Sprintf("serial %s stands in %s already, and says something else", e.row.Serial, where)}))
			return nil
		}
		first[string(e.row.Serial)] = kept
		f.repeated[over] = struct{}{}
		if f.Repeated, f.Rows = f.Repeated+1, f.Rows-1; f.Repeated > maxRepeated {
			return errRepeated
		}
		return nil
	}})
}

func sameRow(a, b db.Row) bool { return a.Status == b.Status && a.Silent == b.Silent }

// sameEnd says whether two rows can be one certificate.
func sameEnd(a, b db.Row) bool {
	return a.Status.NotAfter.IsZero() || b.Status.NotAfter.IsZero() || a.Status.NotAfter.Equal(b.Status.NotAfter)
}

func anEnd(a, b db.Row) time.Time {
	if a.Status.NotAfter.IsZero() {
		return b.Status.NotAfter
	}
	return a.Status.NotAfter
}

// errCut is what a form says of a file that ends too early.
var errCut = errors.New("it is cut short")
