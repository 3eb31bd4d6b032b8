package feed

import (
	"errors"
	"fmt"
)

// Faults of a source that a reader of segments finds.
var (
	ErrGap      = errors.New("it lacks what leads to its checkpoint")
	ErrMixed    = errors.New("its files do not belong together")
	ErrRollback = errors.New("it shows an older history than this site has")
)

// Chain verifies segments one after the other, from a place in the feed on: their signatures,
// and that each continues the one before. Not safe for concurrent use.
type Chain struct {
	set            *KeySet
	number         int64       // of the last segment
	position       int64       // the last known change
	hash, noteHash Hash        // of that segment's body, and of its checkpoint's text
	last           *Checkpoint // nil: before the first segment
}

// After returns a chain that begins at a snapshot that the set admitted.
func (k *KeySet) After(s *Snapshot) *Chain {
	return &Chain{k, s.Number, s.Position, s.Segment, s.Previous, &s.Checkpoint}
}

// AfterSeal returns a chain that begins after the segment of a sealing checkpoint that the set
// admitted; nil: before the first.
func (k *KeySet) AfterSeal(c *Checkpoint) *Chain {
	if c == nil {
		return &Chain{set: k}
	}
	return &Chain{k, c.Number, c.Position, c.Segment, c.Hash(), c}
}

// Last returns the checkpoint of the last verified segment, or of the chain's beginning.
func (c *Chain) Last() *Checkpoint { return c.last }

// Number returns the number of that segment.
func (c *Chain) Number() int64 { return c.number }

// Next verifies the segment that follows.
func (c *Chain) Next(sealed Sealed) (*Checkpoint, *Segment, error) {
	next, segment, err := c.set.Open(sealed)
	if err == nil {
		err = GoesBack(c.last, next)
	}
	switch number := c.number + 1; {
	case err != nil:
		return nil, nil, err
	case segment.Number != number || c.last != nil && next.Epoch != c.last.Epoch || segment.Previous != c.hash || next.Previous != c.noteHash:
		return nil, nil, fmt.Errorf("%w: segment %d does not continue what comes before it", ErrMixed, number)
	case segment.SnapshotRequired && segment.Last > c.position:
		return nil, nil, fmt.Errorf("%w: segment %d requires a snapshot, and changes are known up to position %d", ErrGap, number, c.position)
	}
	c.number, c.position, c.hash, c.noteHash, c.last = segment.Number, max(c.position, segment.Last), next.Segment, next.Hash(), next
	return next, segment, nil
}

// GoesBack says why checkpoint c cannot come after s, the last accepted one: within an epoch
// the audit only grows, and later positions have later times.
func GoesBack(s, c *Checkpoint) error {
	switch {
	case s == nil || s.Epoch != c.Epoch || c.Position < s.Position:
	case c.Position > s.Position && c.AsOf.Before(s.AsOf):
		return fmt.Errorf("%w: position %d is of %s, at %s there was nothing beyond %d", ErrRollback, c.Position, Stamp(c.AsOf), Stamp(s.AsOf), s.Position)
	case !c.AsOf.Before(s.AsOf) && c.AuditCount < s.AuditCount:
		return fmt.Errorf("%w: an audit of %d entries, it had %d", ErrRollback, c.AuditCount, s.AuditCount)
	}
	return nil
}
