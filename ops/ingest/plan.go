package ingest

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
)

// ErrOtherCertificates says that serials of the file belong to other
// certificates at the master: it is another issuer's file, or an end of
// validity was registered wrongly.
var ErrOtherCertificates = errors.New("serials of the file have another end of validity at the master")

// Difference is a row on which file and master do not agree.
type Difference struct {
	Place  Place
	Serial db.Serial
	Effect db.Effect
	Source db.Status
	Here   db.Status // zero for db.ImportNew
}

// Plan says what an import would do now.
type Plan struct {
	Counts map[db.Effect]int64
	// First are the first 20 rows that the master knows otherwise, then the first
	// new ones as far as there is room.
	First []Difference

	file   *File
	issuer db.Issuer
	idle   map[int64]bool // batches in which nothing is to be written
	fresh  map[int64]bool // batches of which every row is new
}

// Writes is how many rows of the master would be written.
func (p *Plan) Writes() int64 {
	return p.Counts[db.ImportNew] + p.Counts[db.ImportRevoke] + p.Counts[db.ImportPermanent]
}

// Conflicts is how many rows the master knows otherwise and keeps so, and how
// many it cannot take, since their end is not known.
func (p *Plan) Conflicts() int64 {
	return p.Counts[db.ImportKept] + p.Counts[db.ImportDetail] + p.Counts[db.ImportOtherEnd] + p.Counts[db.ImportNoEnd]
}

// Refusal says why Apply will do nothing, or nil.
func (p *Plan) Refusal() error {
	if n := p.Counts[db.ImportOtherEnd]; n > 0 {
		return fmt.Errorf("importing %s: %d %w: is it the file of issuer %q?", p.file.Name, n, ErrOtherCertificates, p.issuer.Name)
	}
	return nil
}

// Plan compares the file with what the master says of the issuer's
// certificates. It only reads.
func (f *File) Plan(ctx context.Context, store *db.Store, progress func(Progress)) (*Plan, error) {
	issuer := f.options.Issuer
	p := &Plan{Counts: map[db.Effect]int64{}, file: f, issuer: issuer, idle: map[int64]bool{}, fresh: map[int64]bool{}}
	var fresh []Difference
	watch := watch("rows", f.Rows, progress)
	err := f.batches(ctx, func(number int64, batch []located) error {
		before, news := p.Writes(), p.Counts[db.ImportNew]
		findings, err := p.find(ctx, store, rowsOf(batch))
		if err != nil {
			return err
		}
		for i, found := range findings {
			p.Counts[found.Effect]++
			if found.Effect == db.ImportSame {
				continue
			}
			d := Difference{batch[i].place, batch[i].row.Serial, found.Effect, batch[i].row.Status, found.Here}
			switch {
			case found.Effect == db.ImportNew && len(fresh) < firstFew:
				fresh = append(fresh, d)
			case found.Effect != db.ImportNew && len(p.First) < firstFew:
				p.First = append(p.First, d)
			}
			if text := conflict(found.Effect); text != "" {
				f.tell(Note{KindConflict, d.Place, fmt.Sprintf("serial %s: %s", d.Serial, text)})
			}
		}
		p.idle[number] = p.Writes() == before
		p.fresh[number] = p.Counts[db.ImportNew]-news == int64(len(batch))
		watch(len(batch))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing %s with issuer %q: %w", f.Name, issuer.Name, err)
	}
	p.First = append(p.First, fresh[:min(len(fresh), firstFew-len(p.First))]...)
	return p, nil
}

// conflict says why a row is not imported as the file has it, or "".
func conflict(e db.Effect) string {
	switch e {
	case db.ImportKept:
		return "revoked at the master and not so in the file: left revoked"
	case db.ImportDetail:
		return "revoked in both, at another time or for another reason: left as it is"
	case db.ImportOtherEnd:
		return "another end of validity at the master"
	case db.ImportNoEnd:
		return "revoked, but never registered at the master, and the file does not tell its end: left out (--not-after TIME gives it one)"
	}
	return ""
}

// find compares rows with the master and gives ends to those that have none:
// the master's, or for new ones the one that the caller chose.
func (p *Plan) find(ctx context.Context, store *db.Store, rows []db.Row) ([]db.Finding, error) {
	findings, err := store.PlanImport(ctx, p.issuer.ID, rows)
	if err != nil {
		return nil, err
	}
	for i := range findings {
		found, row := &findings[i], &rows[i]
		if found.Effect == db.ImportNoEnd && !p.file.options.NotAfter.IsZero() {
			found.Effect, row.Status.NotAfter = db.ImportNew, p.file.options.NotAfter
		} else if row.Status.NotAfter.IsZero() {
			row.Status.NotAfter = found.Here.NotAfter
		}
	}
	return findings, nil
}

// Result is what an import wrote.
type Result struct {
	Inserted  int64
	Revoked   int64
	Unchanged int64
}

// Apply does what the plan says, batch by batch, each a transaction with its
// audit entry. What changed at the master since the plan was made is judged
// anew: nothing is taken back. After an error, start again with a new plan.
func (p *Plan) Apply(ctx context.Context, store *db.Store, act db.Act, progress func(Progress)) (Result, error) {
	var done Result
	if err := p.Refusal(); err != nil {
		return done, err
	}
	watch := watch("rows", p.file.Rows, progress)
	pace := store.NewPace()
	err := p.file.batches(ctx, func(number int64, batch []located) error {
		var rows []db.Row
		var err error
		switch {
		case p.idle[number]:
		case p.fresh[number]: // what was registered meanwhile is as safe: the master decides
			rows = p.ended(rowsOf(batch))
		default:
			if rows, err = p.pending(ctx, store, rowsOf(batch)); err != nil {
				return err
			}
		}
		done.Unchanged += int64(len(batch) - len(rows))
		if len(rows) > 0 {
			if err := pace.Wait(ctx); err != nil {
				return err
			}
			inserted, revoked, unchanged, err := store.ImportBatch(ctx, p.issuer.ID, rows, p.source(number), act)
			if err != nil {
				return err
			}
			done.Inserted += inserted
			done.Revoked += revoked
			done.Unchanged += unchanged
		}
		watch(len(batch))
		return nil
	})
	if err == nil && p.file.CRL != nil {
		// The number of a CRL is remembered even where it changed nothing.
		_, _, _, err = store.ImportBatch(ctx, p.issuer.ID, nil, p.source(0), act)
	}
	if err != nil {
		return done, fmt.Errorf("importing %s for issuer %q, %d rows done (run it again to go on): %w",
			p.file.Name, p.issuer.Name, done.Inserted+done.Revoked+done.Unchanged, err)
	}
	return done, nil
}

// source names a batch in the audit.
func (p *Plan) source(batch int64) db.ImportSource {
	source := db.ImportSource{Form: p.file.options.Form, File: p.file.Name, SHA256: p.file.sum(), Batch: batch}
	if crl := p.file.CRL; crl != nil && crl.Number != nil {
		source.CRLNumber = crl.Number.String()
	}
	return source
}

// pending returns the rows that would write something now. The others are not
// even offered: ON CONFLICT locks each row, which is a write like any other.
func (p *Plan) pending(ctx context.Context, store *db.Store, rows []db.Row) ([]db.Row, error) {
	findings, err := p.find(ctx, store, rows)
	if err != nil {
		return nil, err
	}
	pending := rows[:0]
	for i, f := range findings {
		if f.Effect == db.ImportNew || f.Effect == db.ImportRevoke || f.Effect == db.ImportPermanent {
			pending = append(pending, rows[i])
		}
	}
	return pending, nil
}

// ended gives new rows without an end the one that the caller chose.
func (p *Plan) ended(rows []db.Row) []db.Row {
	for i := range rows {
		if rows[i].Status.NotAfter.IsZero() {
			rows[i].Status.NotAfter = p.file.options.NotAfter
		}
	}
	return rows
}

func rowsOf(batch []located) []db.Row {
	rows := make([]db.Row, len(batch))
	for i, l := range batch {
		rows[i] = l.row
	}
	return rows
}
