package db

import (
	"context"
	"fmt"
	"time"
)

const (
	// paceAhead is how many transactions of an import may be on their way to the
	// sites: two of 5,000 rows are applied in 0.1 to 0.4 s, and a revocation
	// waits behind no more.
	paceAhead = 2
	// paceLook is how often the sites are looked at.
	paceLook = 10 * time.Millisecond
	// pacePatience is how long a site may apply nothing before the rest of the
	// import stops waiting for the sites: it is dead or stuck, and none of the others
	// shall suffer for it.
	pacePatience = 20 * time.Second
)

// Pace keeps a bulk writer from running ahead of the sites: what is written
// after it waits behind it at each of them.
type Pace struct {
	store *Store
	marks []int64 // WAL positions after the last transactions, oldest first
	gone  bool    // a site did not move: no more waiting
}

// NewPace returns the pace for one bulk writer, which calls Wait before each of
// its transactions. Not safe for concurrent use.
func (s *Store) NewPace() *Pace { return &Pace{store: s} }

// Wait returns when every site that follows has applied all but the last few of
// the transactions before. It does not wait for sites that are away.
func (p *Pace) Wait(ctx context.Context) error {
	if p.gone {
		return nil
	}
	var here int64
	if err := p.store.pool.QueryRow(ctx, "select (pg_current_wal_lsn() - '0/0')::bigint").Scan(&here); err != nil {
		return fmt.Errorf("asking how far the sites are: %w", plain(err))
	}
	if p.marks = append(p.marks, here); len(p.marks) <= paceAhead {
		return nil
	}
	target := p.marks[len(p.marks)-paceAhead]
	p.marks = append(p.marks[:0], p.marks[len(p.marks)-paceAhead:]...)
	tick := time.NewTicker(paceLook)
	defer tick.Stop()
	last, moved := int64(-1), time.Now()
	for {
		var wrote *int64
		if err := p.store.pool.QueryRow(ctx, "select replicas_wrote()").Scan(&wrote); err != nil {
			return fmt.Errorf("asking how far the sites are: %w", plain(err))
		}
		if wrote == nil || *wrote >= target {
			return nil
		}
		if *wrote != last {
			last, moved = *wrote, time.Now()
		}
		if time.Since(moved) > pacePatience {
			p.gone = true
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
