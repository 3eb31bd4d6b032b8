package replica

import (
	"sync"
	"time"
)

// Pace decides when a copy is counted against its head: regularly, and at once when something
// was written here that did not come from the master. Counting takes at most a hundredth of
// the time, a twentieth on suspicion. It reads no clock and no database itself, and is safe
// for concurrent use.
//
// Every row that changes at a site takes a number of site_seq, whoever changes it. So
// numbers minus what came from the master stay equal while all changes come from there:
// more of them, and somebody wrote here; fewer, and a change found no row. A count will
// tell. (What looks alike costs a count; what cancels out between two readings, the regular
// count finds.)
type Pace struct {
	Regular  time.Duration // between two counts
	Readings int           // so many readings in a row that show another excess are a suspicion
	Gap      time.Duration // at least between two counts on suspicion
	Counts   int           // so many unequal counts in a row are believed

	mu       sync.Mutex // guards what follows
	due      time.Time  // of the next regular count
	earliest time.Time  // of one on suspicion
	known    bool       // excess is set
	excess   int64      // when all was well
	last     int64      // at the last reading
	suspect  int        // readings in a row that showed another
	unequal  int        // counts in a row that failed
}

// Copied says that the copy is new.
func (p *Pace) Copied(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due, p.earliest, p.known, p.suspect, p.unequal = now.Add(p.Regular), time.Time{}, false, 0, 0
}

// Wrote says that our own writing took so many numbers: what others wrote before, meanwhile
// or after stays suspect.
func (p *Pace) Wrote(numbers int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excess += numbers
	p.last += numbers
}

// Starts says that the copy is new, and what the excess was when nobody else could write.
func (p *Pace) Starts(excess int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.excess, p.last, p.suspect = true, excess, excess, 0
}

// Now asks for a count at once.
func (p *Pace) Now() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due = time.Time{}
}

// Observe takes in what a reading at the site showed: the last number of site_seq, minus the
// position where both move by themselves.
func (p *Pace) Observe(excess int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = excess
	if !p.known {
		p.known, p.excess = true, excess
	}
	if excess != p.excess {
		p.suspect++
	} else {
		p.suspect = 0
	}
}

// Wanted says whether to count now.
func (p *Pace) Wanted(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unequal > 0 || !now.Before(p.due) || p.suspected(now)
}

// Suspected says whether to count now though the regular count is not due.
func (p *Pace) Suspected(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.suspected(now)
}

func (p *Pace) suspected(now time.Time) bool {
	return p.suspect >= p.Readings && !now.Before(p.earliest)
}

// Counting says that a count begins. It answers the suspicion, whatever it finds: what
// follows from it, a seed for one, is not to be broken off by the same suspicion. What is
// written while it counts is a new one.
func (p *Pace) Counting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excess, p.suspect = p.last, 0
}

// Counted takes in that a count came to its end, after took, or failed; Compared tells what
// it found.
func (p *Pace) Counted(now time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due, p.earliest = now.Add(max(p.Regular, 100*took)), now.Add(max(p.Gap, 20*took))
}

// Compared takes in whether the copy was equal, and says whether it is believed not to be.
func (p *Pace) Compared(equal bool) (diverged bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if equal {
		p.unequal = 0
		return false
	}
	if p.unequal++; p.unequal < p.Counts {
		return false
	}
	p.unequal = 0
	return true
}
