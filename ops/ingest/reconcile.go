package ingest

import (
	"context"
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/ingest/syntax"
)

// Comparison is the differences between a file and the master, both ways.
type Comparison struct {
	*Plan            // what the master lacks or has otherwise
	masterdb.Missing // what the file lacks
	// Ended are the newest CRLs that are past their nextUpdate: they prove nothing about today.
	Ended []CRL
	// FirstHere are the first 20 rows of the master that are missing in the file.
	FirstHere []Here
}

// Here is a certificate that the master has.
type Here struct {
	Serial db.Serial
	Status db.Status
}

// Different is how many rows differ.
func (c *Comparison) Different() int64 {
	n := c.Missing.Rows
	for effect, count := range c.Counts {
		if effect != masterdb.ImportSame && effect != masterdb.ImportGuessed {
			n += count
		}
	}
	return n
}

// Reconcile compares the file with the master's rows of the issuer, both ways. It writes
// nothing.
func (f *File) Reconcile(ctx context.Context, progress func(Progress)) (*Comparison, error) {
	plan, err := f.Plan(ctx, progress)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Plan: plan}
	var made time.Time // of the oldest part of the list: newer certificates may be missing in it
	for _, crl := range f.CRLs {
		if !crl.Newest {
			continue
		}
		if made.IsZero() || crl.ThisUpdate.Before(made) {
			made = crl.ThisUpdate
		}
		if !crl.NextUpdate.IsZero() && crl.NextUpdate.Before(f.options.Now) {
			c.Ended = append(c.Ended, crl)
		}
	}
	c.Missing, err = f.rows.Missing(ctx, made, func(serial db.Serial, status db.Status) error {
		f.tell(Note{KindConflict, syntax.Place{Name: "master"}, fmt.Sprintf("serial %s: at the master, not in the file", serial)})
		if len(c.FirstHere) < firstFew {
			c.FirstHere = append(c.FirstHere, Here{serial, status})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing issuer %q with %s: %w", f.options.Issuer.Name, f.Name, err)
	}
	return c, nil
}
