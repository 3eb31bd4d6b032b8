package replica

import (
	"sync"
	"time"
)

// Pace decides when a copy is counted against its head: regularly, and at once after a write here
// that did not come from the master. Counting takes at most a hundredth of the time, a twentieth
// on suspicion. Pace reads no clock and no database itself, and is safe for concurrent use.
//
// Every row that changes at a site takes a number of site_seq, whatever changes it. So numbers
// minus the master's changes stay equal while all changes come from there: with more numbers,
// another program wrote here; with fewer, a change found no row. A count then decides. (A harmless
// cause costs a count; the regular count finds what cancels out between two readings.)
type Pace struct {
	Regular  time.Duration // between two counts
	Readings int           // this many readings in a row with another excess are a suspicion
	Gap      time.Duration // at least between two counts on suspicion
	Counts   int           // this many unequal counts in a row are accepted

	mu       sync.Mutex // guards the fields below
	due      time.Time  // of the next regular count
	earliest time.Time  // of one on suspicion
	known    bool       // excess is set
	excess   int64      // when all was well
	last     int64      // at the last reading
	suspect  int        // readings in a row that showed another
	unequal  int        // counts in a row that failed
}

// Copied notes that the copy is new.
func (p *Pace) Copied(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due, p.earliest, p.known, p.suspect, p.unequal = now.Add(p.Regular), time.Time{}, false, 0, 0
}

// Wrote notes that this program's own writing took this many numbers: writes by others before,
// during or after it stay suspect.
func (p *Pace) Wrote(numbers int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excess += numbers
	p.last += numbers
}

// Starts notes that the copy is new, and the excess while no other program could write.
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

// Observe takes a reading at the site: the last number of site_seq, minus the position if both
// move by themselves.
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

// Counting notes that a count begins. The count answers the suspicion, whatever it finds: the same
// suspicion must not interrupt what follows, such as a seed. Writes during the count are a new
// suspicion.
func (p *Pace) Counting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excess, p.suspect = p.last, 0
}

// Counted notes that a count ended, after took, or failed; Compared takes its finding.
func (p *Pace) Counted(now time.Time, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.due, p.earliest = now.Add(max(p.Regular, 100*took)), now.Add(max(p.Gap, 20*took))
}

// Compared takes whether the copy was equal, and says whether the copy counts as diverged.
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
