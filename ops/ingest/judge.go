package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"ocspfleet/db"
)

// judge reads the file, stages its rows, and has the master look for what is wrong with
// each and for serials that stand twice.
func (f *File) judge(ctx context.Context, path string, form form, file io.Reader) error {
	faults := &Faults{File: path}
	total := sha256.New()
	watch := watch("octets", f.size, f.options.Progress)
	in := io.TeeReader(file, writerFunc(func(p []byte) { total.Write(p); watch(len(p)) }))
	batch := make([]db.StagedRow, 0, batchRows)
	entries := 0
	err := form.read(in, func(e entry) error {
		if entries++; entries%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case e.problem != "":
			faults.add(f.last, f.tell(Note{KindBad, e.place, e.problem}))
			return nil
		case e.skip != "":
			f.Skipped[e.skip]++
			f.note(Note{KindSkipped, e.place, e.skip})
			return nil
		case e.pending:
			f.Pending++
			f.note(Note{KindPending, e.place, fmt.Sprintf("serial %s: its revocation was asked for and not done: imported as not revoked", e.row.Serial)})
		}
		f.last++
		batch = append(batch, db.StagedRow{Number: f.last, Name: e.place.Name, Line: e.place.Line, Item: e.place.Row, Row: e.row})
		if len(batch) < batchRows {
			return nil
		}
		defer func() { batch = batch[:0] }()
		return f.rows.Add(ctx, batch)
	})
	if err == nil {
		_, err = io.Copy(io.Discard, in) // what the form did not need is summed, too
	}
	if err == nil {
		err = f.rows.Add(ctx, batch)
	}
	if err != nil {
		return err
	}
	f.SHA256 = [sha256.Size]byte(total.Sum(nil))
	err = f.rows.Faults(ctx, func(bad db.FaultyRow) error {
		faults.add(bad.Number-1, f.tell(Note{KindBad, placeOf(bad.StagedRow), textOf(bad)}))
		return nil
	})
	if err != nil {
		return err
	}
	if faults.Count > 0 {
		return faults
	}
	if f.Repeated, err = f.rows.Merge(ctx); err != nil {
		return err
	}
	f.Rows = f.last - f.Repeated
	if others := f.Skipped[skipOtherIssuer]; f.Rows == 0 && others > 0 {
		return fmt.Errorf("none of its certificates is of issuer %q (%d of other issuers): is it the right file?", f.options.Issuer.Name, others)
	}
	return nil
}

func placeOf(r db.StagedRow) Place { return Place{Name: r.Name, Line: r.Line, Row: r.Item} }

// textOf says what is wrong with a row that the master would not take.
func textOf(bad db.FaultyRow) string {
	switch bad.Fault {
	case db.FaultNotAfter:
		if bad.Status.NotAfter.After(earliest) {
			return "expiry lies after 9999"
		}
		return fmt.Sprintf("expiry %s lies before %d", bad.Status.NotAfter.Format(time.RFC3339), earliest.Year())
	case db.FaultRevokedAt:
		return fmt.Sprintf("revocation time %s lies before %d", bad.Status.RevokedAt.Format(time.RFC3339), earliest.Year())
	case db.FaultFuture:
		return fmt.Sprintf("revocation time %s lies in the future", bad.Status.RevokedAt.Format(time.RFC3339))
	case db.FaultHold:
		return "is on hold: the profile br forbids certificateHold (BR section 4.9.13)"
	case db.FaultRepeated:
		other := placeOf(bad.Other)
		where := other.String()
		if other.Name == "" && other.Row == 0 {
			where = "line " + where
		}
		return fmt.Sprintf("serial %s stands in %s already, and says something else", bad.Serial, where)
	}
	if err := bad.Serial.Check(); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("serial %s cannot be registered (%s)", bad.Serial, bad.Fault)
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

// errCut is what a form says of a file that ends too early.
var errCut = errors.New("it is cut short")
