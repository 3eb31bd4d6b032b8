package ingest

import (
	"context"
	"errors"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// ErrOtherCertificates says that serials of the file belong to other
// certificates at the master: it is another issuer's file, or an end of
// validity was registered wrongly.
var ErrOtherCertificates = errors.New("serials of the file have another end of validity at the master")

// Difference is a row on which file and master do not agree.
type Difference struct {
	Place  syntax.Place
	Serial db.Serial
	Effect masterdb.Effect
	Source db.Status
	Here   db.Status // zero for db.ImportNew
}

// Plan says what an import would do now.
type Plan struct {
	Counts map[masterdb.Effect]int64
	// States counts all rows by their state in the file.
	States map[db.State]int64
	// First are the first 20 rows with a different status at the master, then the first new
	// ones, 20 in all.
	First []Difference

	file   *File
	issuer db.Issuer
	rows   map[int64]int64 // of each batch
	idle   map[int64]bool  // batches without a row to write
}

// Writes is how many rows of the master would be written.
func (p *Plan) Writes() int64 {
	return p.Counts[masterdb.ImportNew] + p.Counts[masterdb.ImportRevoke] + p.Counts[masterdb.ImportPermanent] + p.Counts[masterdb.ImportReason] + p.Counts[masterdb.ImportEnd]
}

// Limited is how many of them count for the fleet's hourly limit: those that are good at the
// master and become revoked.
func (p *Plan) Limited() int64 { return p.Counts[masterdb.ImportRevoke] }

// Conflicts is how many rows differ at the master and stay so, and how many cannot be imported,
// since their end is not known.
func (p *Plan) Conflicts() int64 {
	return p.Counts[masterdb.ImportKept] + p.Counts[masterdb.ImportDetail] + p.Counts[masterdb.ImportOtherEnd] + p.Counts[masterdb.ImportNoEnd]
}

// Refusal says why Apply will do nothing, or nil.
func (p *Plan) Refusal() error {
	if n := p.Counts[masterdb.ImportOtherEnd]; n > 0 {
		return fmt.Errorf("importing %s: %d %w: is it the file of issuer %q? (a wrong end at the master is mended by ocspctl cert correct --not-after)", p.file.Name, n, ErrOtherCertificates, p.issuer.Name)
	}
	return nil
}

// Plan compares the file with the master's rows of the issuer. It only reads.
func (f *File) Plan(ctx context.Context, progress func(Progress)) (*Plan, error) {
	issuer := f.options.Issuer
	p := &Plan{Counts: map[masterdb.Effect]int64{}, States: map[db.State]int64{}, file: f, issuer: issuer, rows: map[int64]int64{}, idle: map[int64]bool{}}
	var fresh []Difference
	watch := watch("rows", f.Rows, progress)
	err := f.parts(func(number int64, part masterdb.Part) error {
		before := p.Writes()
		counts, found, err := f.rows.Plan(ctx, part, firstFew-len(fresh))
		if err != nil {
			return err
		}
		for effect, states := range counts {
			for state, n := range states {
				p.Counts[effect] += n
				p.States[state] += n
				p.rows[number] += n
			}
		}
		for _, one := range found {
			d := Difference{placeOf(one.StagedRow), one.Serial, one.Effect, one.Status, one.Here}
			switch {
			case d.Effect == masterdb.ImportNew:
				fresh = append(fresh, d)
			case len(p.First) < firstFew:
				p.First = append(p.First, d)
			}
			if text := conflict(d.Effect); text != "" {
				f.tell(Note{KindConflict, d.Place, fmt.Sprintf("serial %s: %s", d.Serial, text)})
			}
		}
		p.idle[number] = p.Writes() == before
		watch(int(p.rows[number]))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing %s with issuer %q: %w", f.Name, issuer.Name, err)
	}
	p.First = append(p.First, fresh[:min(len(fresh), firstFew-len(p.First))]...)
	return p, nil
}

// conflict says why a row is not imported as in the file, or "".
func conflict(e masterdb.Effect) string {
	switch e {
	case masterdb.ImportKept:
		return "revoked at the master and not so in the file: left revoked"
	case masterdb.ImportDetail:
		return "revoked in both, at another time or for another reason: left as it is"
	case masterdb.ImportOtherEnd:
		return "another end of validity at the master"
	case masterdb.ImportNoEnd:
		return "revoked, but never registered at the master, and the file does not tell its end: left out (--not-after TIME gives it one)"
	}
	return ""
}

// Result is what an import wrote.
type Result struct {
	Inserted  int64
	Revoked   int64
	Unchanged int64
}

// Apply executes the plan, batch by batch, each one transaction with its audit entry. Changes
// at the master since the plan was made are checked again: no revocation is removed. After an
// error, start again with a new plan.
func (p *Plan) Apply(ctx context.Context, store *masterdb.DB, act db.Act, progress func(Progress)) (Result, error) {
	var done Result
	if err := p.Refusal(); err != nil {
		return done, err
	}
	watch := watch("rows", p.file.Rows, progress)
	pace := store.NewPace()
	var only CRL // its number goes into each batch; with several CRLs their end does
	if len(p.file.CRLs) == 1 {
		only = p.file.CRLs[0]
	}
	write := func(number int64, part masterdb.Part) error {
		inserted, revoked, unchanged, err := p.file.rows.Apply(ctx, part, p.source(number, only), act)
		done.Inserted, done.Revoked, done.Unchanged = done.Inserted+inserted, done.Revoked+revoked, done.Unchanged+unchanged
		return err
	}
	err := p.file.parts(func(number int64, part masterdb.Part) error {
		if p.idle[number] {
			done.Unchanged += p.rows[number]
		} else {
			if err := pace.Wait(ctx); err != nil {
				return err
			}
			if err := write(number, part); err != nil {
				return err
			}
		}
		watch(int(p.rows[number]))
		return nil
	})
	// The numbers of CRLs are stored even where they changed nothing.
	for _, crl := range p.file.CRLs {
		if err == nil && crl.Newest {
			_, _, _, err = p.file.rows.Apply(ctx, masterdb.Part{}, p.source(0, crl), act)
		}
	}
	if err != nil {
		return done, fmt.Errorf("importing %s for issuer %q, %d rows done (run it again to go on): %w",
			p.file.Name, p.issuer.Name, done.Inserted+done.Revoked+done.Unchanged, err)
	}
	return done, nil
}

// source names a batch in the audit.
func (p *Plan) source(batch int64, crl CRL) masterdb.ImportSource {
	source := masterdb.ImportSource{Form: p.file.options.Form, File: p.file.Name, SHA256: p.file.sum(), Batch: batch, CRLShard: crl.Shard}
	if crl.Number != nil {
		source.CRLNumber = crl.Number.String()
	}
	return source
}
