package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// judge reads the files, stages their rows, and lets the master check them and find serials
// that occur twice.
func (f *File) judge(ctx context.Context, form form, files []source) error {
	faults := &Faults{File: files[0].path}
	total := sha256.New()
	watch := watch("octets", f.size, f.options.Progress)
	batch := make([]masterdb.StagedRow, 0, batchRows)
	entries := 0
	var serials decimals
	emit := func(e entry) error {
		if entries++; entries%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case e.problem != "" && e.odd && f.options.SkipBad:
			f.Bad++
			f.note(Note{KindBad, e.place, e.problem})
			if !e.taken {
				return nil
			}
		case e.problem != "":
			faults.add(f.last, f.tell(Note{KindBad, e.place, e.problem}), e.odd)
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
		serials.see(e.row.Serial)
		batch = append(batch, masterdb.StagedRow{Number: f.last, Name: e.place.Name, Line: e.place.Line, Item: e.place.Row, Row: e.row})
		if len(batch) < batchRows {
			return nil
		}
		defer func() { batch = batch[:0] }()
		return f.rows.Add(ctx, batch)
	}
	whole := func(path string, err error) error {
		if faults := (*Faults)(nil); err != nil && !errors.As(err, &faults) {
			err = fmt.Errorf("reading %s as %s: %w", path, f.options.Form, err)
		}
		return err
	}
	for _, file := range files {
		f.reading = filepath.Base(file.path)
		in := io.TeeReader(file, writerFunc(func(p []byte) { total.Write(p); watch(len(p)) }))
		text, err := syntax.Unmarked(in)
		if err == nil {
			err = form.read(text, emit)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, in) // the part that the form did not read is hashed, too
		}
		if err != nil {
			return whole(file.path, err)
		}
	}
	if ender, ok := form.(ender); ok {
		if err := ender.end(emit); err != nil {
			return whole(files[0].path, err)
		}
	}
	if err := f.rows.Add(ctx, batch); err != nil {
		return whole(files[0].path, err)
	}
	f.SHA256 = [sha256.Size]byte(total.Sum(nil))
	if hexSerials[f.options.Form] || f.options.SerialBase == 16 {
		f.Warnings = append(f.Warnings, serials.warning()...)
	}
	return whole(files[0].path, f.weigh(ctx, faults))
}

// weigh lets the master check the staged rows, and merges equal ones. It returns Faults if
// there are any.
func (f *File) weigh(ctx context.Context, faults *Faults) error {
	out := []int64{} // numbers of bad rows that are left out
	err := f.rows.Faults(ctx, f.CRLs != nil, func(bad masterdb.FaultyRow) error {
		note := Note{KindBad, placeOf(bad.StagedRow), textOf(bad)}
		odd := f.CRLs != nil && bad.Fault != masterdb.FaultHold
		switch {
		case odd && f.options.SkipBad:
			f.Bad++
			f.note(note)
			if bad.Fault != masterdb.FaultRepeated {
				out = append(out, bad.Number)
			}
		default:
			faults.add(bad.Number-1, f.tell(note), odd)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if faults.Count > 0 {
		return faults
	}
	if f.Repeated, err = f.rows.Merge(ctx, out); err != nil {
		return err
	}
	f.Rows = f.last - f.Repeated - int64(len(out))
	switch others := f.Others(); {
	case f.Rows > 0 || f.CRLs != nil:
	case others > 0:
		return fmt.Errorf("none of its certificates is of issuer %q (%d of other issuers): is it the right file?", f.options.Issuer.Name, others)
	default:
		return errNothing
	}
	return nil
}

// Others returns the number of entries skipped as another issuer's.
func (f *File) Others() (n int64) {
	for reason, count := range f.Skipped {
		if strings.HasPrefix(reason, skipOtherIssuer) {
			n += count
		}
	}
	return n
}

func placeOf(r masterdb.StagedRow) syntax.Place {
	return syntax.Place{Name: r.Name, Line: r.Line, Row: r.Item}
}

// textOf says why the master refuses a row.
func textOf(bad masterdb.FaultyRow) string {
	switch bad.Fault {
	case masterdb.FaultNotAfter:
		if bad.Status.NotAfter.After(earliest) {
			return "expiry lies after 9999"
		}
		return fmt.Sprintf("expiry %s lies before %d", bad.Status.NotAfter.Format(time.RFC3339), earliest.Year())
	case masterdb.FaultRevokedAt:
		return fmt.Sprintf("revocation time %s lies before %d", bad.Status.RevokedAt.Format(time.RFC3339), earliest.Year())
	case masterdb.FaultFuture:
		return fmt.Sprintf("revocation time %s lies in the future", bad.Status.RevokedAt.Format(time.RFC3339))
	case masterdb.FaultHold:
		return "is on hold: the profile br forbids certificateHold (BR section 4.9.13)"
	case masterdb.FaultRepeated:
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

// tell reports a note.
func (f *File) tell(n Note) Note {
	if f.options.Note != nil {
		f.options.Note(n)
	}
	return n
}

// note reports a note and keeps the first few.
func (f *File) note(n Note) {
	f.tell(n)
	if len(f.Notes) < firstFew {
		f.Notes = append(f.Notes, n)
	}
}

var errNothing = errors.New("it states no certificate: is it the right file?")
