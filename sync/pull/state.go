package pull

import (
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/replica"
)

// The functions here decide from their arguments alone: they read no clock, source or database.

// sight is everything that /readyz's text rests on.
type sight struct {
	denied bool   // the master does not let this site in
	err    error  // the fault of the source that was asked last, or of this site's database
	unread string // why the copy cannot be counted; empty: it can
}

// diagnose says what is wrong; empty: the copy is in step.
func diagnose(s sight) string {
	switch {
	case s.denied: // then the rest does not matter
		return replica.AccessDenied
	case s.err != nil:
		return s.err.Error()
	}
	return s.unread
}

// stale returns an error if a signed time is too old.
func stale(now, asOf time.Time, after time.Duration) error {
	if age := now.Sub(asOf); age > after {
		return fmt.Errorf("%w: %v", ErrStale, age.Round(time.Second))
	}
	return nil
}

// wantsSeed says why a copy must be seeded again, given a source's checkpoint; empty: the source's
// segments lead there. diverged is the known fault of the copy.
func wantsSeed(have sitedb.FeedCopy, diverged string, c *feed.Checkpoint) string {
	switch {
	case !have.Seeded || !have.Anchored || have.Anchor.Epoch != c.Epoch || have.Head.Epoch != c.Epoch:
		return "there is no copy of this epoch"
	case c.Number-have.Anchor.Number > maxBehind:
		return "the copy is too far behind"
	}
	return diverged
}

// relation is how a checkpoint relates to a copy.
type relation string

const (
	follows      relation = "follows"       // or is equal, or begins another epoch
	olderEpoch   relation = "older epoch"   //
	behind       relation = "behind"        // of an earlier segment than the copy's
	otherSegment relation = "other segment" // of the copy's number, with other changes
	otherContent relation = "other content" // of the copy's position, with other rows
)

// relationOf compares a checkpoint, whose head is given, with a copy.
func relationOf(have sitedb.FeedCopy, c *feed.Checkpoint, head db.Head) relation {
	at := have.Anchor
	switch {
	case have.Seeded && (!have.Anchored || at.Epoch != c.Epoch) && c.Epoch < have.Head.Epoch:
		return olderEpoch
	case !have.Anchored || at.Epoch != c.Epoch:
		return follows
	case c.Number < at.Number:
		return behind
	case c.Number > at.Number:
		return follows
	case c.Segment != feed.Hash(at.Hash):
		return otherSegment
	case head.Position == have.Head.Position && !sameTallies(&head, &have.Head):
		return otherContent
	}
	return follows
}

// sameTallies says whether two heads count the same rows.
func sameTallies(a, b *db.Head) bool {
	for _, t := range db.FeedTables {
		if *t.Tally(a) != *t.Tally(b) {
			return false
		}
	}
	return true
}

// wrongHead says how a copy's head differs from the checkpoint that was stored with it: a changed
// position would skip changes, and one that is ahead would wait for ever. The newest snapshot here
// may be newer than the last seal of its time.
func wrongHead(have sitedb.FeedCopy, kept db.FeedNote, newest db.Snapshot) string {
	at, head := have.Anchor, have.Head
	switch {
	case kept.Epoch != at.Epoch || kept.Number != at.Number: // the checkpoint is of another segment
		return ""
	case head.Epoch == kept.Epoch && head.Position == kept.Position:
		return ""
	case head.Epoch == kept.Epoch && kept.Position < head.Position && head.Position <= newest.Position:
		return ""
	}
	return fmt.Sprintf("the head here is position %d of epoch %d, its checkpoint %d of %d", head.Position, head.Epoch, kept.Position, kept.Epoch)
}
