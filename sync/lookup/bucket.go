package lookup

import (
	"time"
)

// Bucket limits a rate: tokens come at an even pace, and a number of them is kept. For one
// goroutine, or under its owner's lock.
type Bucket struct {
	rate, burst float64
	held        float64
	at          time.Time
}

// NewBucket returns a full bucket: burst tokens, rate new ones a second.
func NewBucket(rate, burst float64) *Bucket { return &Bucket{rate: rate, burst: burst, held: burst} }

// Take takes a token, if there is one.
func (b *Bucket) Take(now time.Time) bool {
	if !b.at.IsZero() {
		b.held = min(b.burst, b.held+max(0, now.Sub(b.at).Seconds())*b.rate)
	}
	b.at = now
	if b.held < 1 {
		return false
	}
	b.held--
	return true
}
