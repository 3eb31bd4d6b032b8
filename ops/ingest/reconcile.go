package ingest

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"ocspfleet/db"
)

// Comparison is what differs between a file and the master, both ways.
type Comparison struct {
	*Plan           // what the file says and the master does not say alike
	Same      int64 // rows on which both agree
	OnlyHere  int64 // rows of the master that the file should have and has not
	FirstHere []db.MasterRow
	Expired   int64 // of the master alone, but expired: sources forget such
	Newer     int64 // of the master alone, but revoked after the CRL was made
	Sites     int64 // of the master alone, but a site's own certificate
}

// Different is how many rows differ.
func (c *Comparison) Different() int64 {
	n := c.OnlyHere
	for effect, count := range c.Counts {
		if effect != db.ImportSame {
			n += count
		}
	}
	return n
}

// Reconcile compares the file with what the master says of the issuer's
// certificates, and the master with the file. It writes nothing.
func (f *File) Reconcile(ctx context.Context, store *db.Store, progress func(Progress)) (*Comparison, error) {
	plan, err := f.Plan(ctx, store, progress)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Plan: plan, Same: plan.Counts[db.ImportSame]}
	seed := maphash.MakeSeed()
	w := window{limit: marksAtOnce, high: math.MaxUint64}
	for {
		// One window of the file's serials after the other, as in judging.
		err := f.batches(ctx, func(_ int64, batch []located) error {
			for _, l := range batch {
				if err := w.add(maphash.Bytes(seed, l.row.Serial)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("comparing issuer %q with %s: %w", f.options.Issuer.Name, f.Name, err)
		}
		slices.Sort(w.marks)
		err = store.EachCertificate(ctx, f.options.Issuer.ID, func(m db.MasterRow) error {
			mark := maphash.Bytes(seed, m.Serial)
			if mark < w.low || mark > w.high {
				return nil
			}
			if _, there := slices.BinarySearch(w.marks, mark); !there {
				c.onlyHere(f, m)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if w.high == math.MaxUint64 {
			return c, nil
		}
		w = window{limit: w.limit, low: w.high + 1, high: math.MaxUint64, marks: w.marks[:0]}
	}
}

// onlyHere judges a row of the master that the file has not.
func (c *Comparison) onlyHere(f *File, m db.MasterRow) {
	at := f.options.Now
	if f.CRL != nil {
		if !m.Status.Revoked() {
			return // a CRL has the revoked ones alone
		}
		at = f.CRL.ThisUpdate
	}
	switch {
	case m.Responder && f.CRL == nil:
		c.Sites++
	case m.Status.NotAfter.Before(at):
		c.Expired++
	case f.CRL != nil && m.Status.RevokedAt.After(at.Truncate(time.Second)):
		c.Newer++
	default:
		c.OnlyHere++
		f.tell(Note{KindConflict, Place{Name: "master"}, fmt.Sprintf("serial %s: at the master, not in the file", m.Serial)})
		if len(c.FirstHere) < firstFew {
			c.FirstHere = append(c.FirstHere, m)
		}
	}
}
