package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ocspfleet/db"
)

// ErrOtherCertificates says that serials of the file belong to other
// certificates at the master: it is another issuer's file, or an end of
// validity was registered wrongly.
var ErrOtherCertificates = errors.New("serials of the file have another end of validity at the master")

// Difference is a row on which file and master do not agree.
type Difference struct {
	Line   int64
	Serial db.Serial
	Effect db.Effect
	Source db.Status
	Here   db.Status // zero for db.ImportNew
}

// Plan says what an import would do now.
type Plan struct {
	Rows     int64 // different ones in the file
	Repeated int64 // lines passed over, since they say what an earlier one says
	Counts   map[db.Effect]int64
	// First are the first 20 rows that the master knows otherwise, then the first
	// new ones as far as there is room.
	First []Difference

	index  *Index
	issuer db.Issuer
	idle   map[int64]bool // batches in which nothing is to be written
}

// Writes is how many rows of the master would be written.
func (p *Plan) Writes() int64 {
	return p.Counts[db.ImportNew] + p.Counts[db.ImportRevoke] + p.Counts[db.ImportPermanent]
}

// Conflicts is how many rows the master knows otherwise and keeps so.
func (p *Plan) Conflicts() int64 {
	return p.Counts[db.ImportKept] + p.Counts[db.ImportDetail] + p.Counts[db.ImportOtherEnd]
}

// Refusal says why Apply will do nothing, or nil.
func (p *Plan) Refusal() error {
	if n := p.Counts[db.ImportOtherEnd]; n > 0 {
		return fmt.Errorf("importing %s: %d %w: is it the index of issuer %q?", p.index.Name, n, ErrOtherCertificates, p.issuer.Name)
	}
	return nil
}

// Plan compares the file with what the master says of the issuer's
// certificates. It only reads.
func (x *Index) Plan(ctx context.Context, store *db.Store, issuer db.Issuer, progress func(Progress)) (*Plan, error) {
	p := &Plan{Rows: x.Rows, Repeated: x.Repeated, Counts: map[db.Effect]int64{}, index: x, issuer: issuer, idle: map[int64]bool{}}
	var fresh []Difference
	watch := x.watch(progress)
	err := x.batches(ctx, func(number int64, batch []located) error {
		before := p.Writes()
		findings, err := store.PlanImport(ctx, issuer.ID, rowsOf(batch))
		if err != nil {
			return err
		}
		for i, f := range findings {
			p.Counts[f.Effect]++
			d := Difference{batch[i].line, batch[i].row.Serial, f.Effect, batch[i].row.Status, f.Here}
			switch {
			case f.Effect == db.ImportSame:
			case f.Effect == db.ImportNew && len(fresh) < firstFew:
				fresh = append(fresh, d)
			case f.Effect != db.ImportNew && len(p.First) < firstFew:
				p.First = append(p.First, d)
			}
		}
		p.idle[number] = p.Writes() == before
		watch(len(batch))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing %s with issuer %q: %w", x.Name, issuer.Name, err)
	}
	p.First = append(p.First, fresh[:min(len(fresh), firstFew-len(p.First))]...)
	return p, nil
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
	watch := p.index.watch(progress)
	err := p.index.batches(ctx, func(number int64, batch []located) error {
		var rows []db.Row
		if !p.idle[number] {
			var err error
			if rows, err = p.pending(ctx, store, rowsOf(batch)); err != nil {
				return err
			}
		}
		done.Unchanged += int64(len(batch) - len(rows))
		if len(rows) > 0 {
			inserted, revoked, unchanged, err := store.ImportBatch(ctx, p.issuer.ID, rows, db.ImportSource{
				Form: "openssl-index", File: p.index.Name, SHA256: p.index.sum(), Batch: number,
			}, act)
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
	if err != nil {
		return done, fmt.Errorf("importing %s for issuer %q, %d rows done (run it again to go on): %w",
			p.index.Name, p.issuer.Name, done.Inserted+done.Revoked+done.Unchanged, err)
	}
	return done, nil
}

// pending returns the rows that would write something now. The others are not
// even offered: ON CONFLICT locks each row, which is a write like any other.
func (p *Plan) pending(ctx context.Context, store *db.Store, rows []db.Row) ([]db.Row, error) {
	findings, err := store.PlanImport(ctx, p.issuer.ID, rows)
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

func rowsOf(batch []located) []db.Row {
	rows := make([]db.Row, len(batch))
	for i, l := range batch {
		rows[i] = l.row
	}
	return rows
}

// Progress is how far a long pass is.
type Progress struct {
	Done, Total int64 // rows
	Elapsed     time.Duration
}

// Rate is rows per second so far.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Done) / p.Elapsed.Seconds()
}

// Left is how long the rest takes at this rate.
func (p Progress) Left() time.Duration {
	if p.Done == 0 {
		return 0
	}
	return time.Duration(float64(p.Elapsed) * float64(p.Total-p.Done) / float64(p.Done))
}

// watch returns what reports n more rows done; progress may be nil.
func (x *Index) watch(progress func(Progress)) func(n int) {
	p, start := Progress{Total: x.Rows}, time.Now()
	return func(n int) {
		p.Done, p.Elapsed = p.Done+int64(n), time.Since(start)
		if progress != nil {
			progress(p)
		}
	}
}
