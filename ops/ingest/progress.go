package ingest

import "time"

// Progress is the state of a long operation.
type Progress struct {
	Done, Total int64
	Unit        string // "rows" or "octets"
	Elapsed     time.Duration
}

// Rate is units per second so far.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Done) / p.Elapsed.Seconds()
}

// Left is how long the rest takes at this rate; 0 when that is not known.
func (p Progress) Left() time.Duration {
	if p.Done == 0 || p.Total < p.Done {
		return 0
	}
	return time.Duration(float64(p.Elapsed) * float64(p.Total-p.Done) / float64(p.Done))
}

// watch returns a function that reports n more units done; progress may be nil.
func watch(unit string, total int64, progress func(Progress)) func(n int) {
	p, start := Progress{Total: total, Unit: unit}, time.Now()
	return func(n int) {
		if progress != nil {
			p.Done, p.Elapsed = p.Done+int64(n), time.Since(start)
			progress(p)
		}
	}
}
