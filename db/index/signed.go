package index

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// maxAwaited bounds the checkpoints of positions that the rows have not reached.
const maxAwaited = 64

// vouch is a checkpoint: the head that it vouches for, and the note, which counts only
// while the newest key set admits it.
type vouch struct {
	db.Head
	note []byte
}

// signed is what is known of the feed's key sets and checkpoints: up to when the master
// vouched for the copy. The rows and the head are as true as whoever writes the site's
// database; how fresh they are, and that a revocation was wrong, only a signature says.
type signed struct {
	notes, keys [][]byte // looked at last
	valid       bool     // one of keys is a set that is believed
	trust       Trust    // of the newest set that was
	heads       []vouch
	fault       string // what is wrong with the newest note or key set; empty: nothing

	// ahead is a position of the rows that no checkpoint had reached at since, by this
	// machine's clock; 0: the checkpoints are as far as the rows.
	ahead int64
	since time.Time
}

// readSigned takes up the newest key set and checkpoint of the snapshot.
func (x *Index) readSigned(ctx context.Context, l *sitedb.ReadTx) {
	if x.cfg.Trust == nil {
		return
	}
	s := &x.signed
	if !s.valid || !slices.EqualFunc(l.SignedKeys, s.keys, bytes.Equal) {
		s.keys, s.notes = l.SignedKeys, nil
		trust, err := x.cfg.Trust(l.SignedKeys)
		if s.valid = err == nil; !s.valid { // corrections are judged by the set before, if there was one
			x.faulty(ctx, err)
			return
		}
		s.trust, s.fault = trust, ""
		x.judgeAgain()
		x.judged = nil
	}
	if s.trust.Checkpoint == nil || slices.EqualFunc(l.SignedNotes, s.notes, bytes.Equal) {
		return
	}
	known := s.notes
	s.notes = l.SignedNotes
	for _, note := range l.SignedNotes {
		if slices.ContainsFunc(known, func(k []byte) bool { return bytes.Equal(k, note) }) {
			continue
		}
		head, err := s.trust.Checkpoint(note)
		if err == nil {
			err = s.goesBack(head)
		}
		if err != nil {
			x.faulty(ctx, err)
			continue
		}
		s.fault = ""
		s.heads = append(s.heads, vouch{head, note})
	}
	if extra := len(s.heads) - maxAwaited; extra > 0 {
		s.heads = s.heads[extra:]
	}
}

func (x *Index) faulty(ctx context.Context, err error) {
	if text := err.Error(); text != x.signed.fault {
		x.signed.fault = text
		x.log.ErrorContext(ctx, "checkpoint is not believed", slog.String("error", text))
	}
}

// judgeAgain forgets the checkpoints that the newest key set does not admit. What was
// answered by them stands, and ages from now on, until there is another.
func (x *Index) judgeAgain() {
	s := &x.signed
	before := len(s.heads)
	s.heads = slices.DeleteFunc(s.heads, func(v vouch) bool {
		if s.trust.Checkpoint == nil {
			return true
		}
		_, err := s.trust.Checkpoint(v.note)
		return err != nil
	})
	stands := slices.ContainsFunc(s.heads, func(v vouch) bool { return v.Epoch == x.held.Epoch && v.Position >= x.held.Position })
	if len(s.heads) == before || stands {
		return
	}
	s.ahead = 0
	if now := x.cfg.Now(); x.held.AsOf.After(now) { // what was said of a time to come
		x.held.AsOf = now
	}
}

// fallsBehind says whether a head lies behind what this copy has reached. Back to an
// earlier epoch it may go where somebody wrote another into the head here: none that a
// checkpoint knows, or, where none is wanted, the one after what was followed before.
func (x *Index) fallsBehind(h db.Head) bool {
	switch {
	case h.Epoch == x.held.Epoch:
		return h.Position < x.reached(x.held)
	case h.Epoch > x.held.Epoch:
		return false
	case x.wantsCheckpoint() && (x.signed.knows(x.held.Epoch) || !x.signed.knows(h.Epoch)), !x.wantsCheckpoint() && h.Epoch != x.before.Epoch:
		return true
	}
	return h.Epoch == x.before.Epoch && h.Position < x.reached(x.before)
}

// reached is the position that no later snapshot may fall behind: the adopted one, as far
// as a checkpoint that the newest key set admits vouches for it.
func (x *Index) reached(adopted db.Head) int64 {
	if !x.wantsCheckpoint() {
		return adopted.Position
	}
	var most int64
	for _, v := range x.signed.heads {
		if v.Epoch == adopted.Epoch {
			most = max(most, min(v.Position, adopted.Position))
		}
	}
	return most
}

// knows says whether there is a checkpoint of an epoch.
func (s *signed) knows(epoch int64) bool {
	return slices.ContainsFunc(s.heads, func(v vouch) bool { return v.Epoch == epoch })
}

// goesBack refuses a checkpoint with a shorter audit than one of its epoch had before.
func (s *signed) goesBack(h db.Head) error {
	for _, v := range s.heads {
		if v.Epoch == h.Epoch && v.Position <= h.Position && !h.AsOf.Before(v.AsOf) && h.AuditCount < v.AuditCount {
			return fmt.Errorf("its audit has %d entries, it had %d", h.AuditCount, v.AuditCount)
		}
	}
	return nil
}

// wantsCheckpoint says whether the copy is believed no fresher than a checkpoint says.
func (x *Index) wantsCheckpoint() bool {
	return x.cfg.Trust != nil && (x.signed.trust.Corrections == nil || x.signed.trust.Checkpoint != nil)
}

// differs says whether a checkpoint of the head's very position says something
// else than the head.
func (s *signed) differs(h db.Head) bool {
	for _, c := range s.heads {
		if c.Epoch == h.Epoch && c.Position == h.Position &&
			(c.Certificates != h.Certificates || c.Issuers != h.Issuers || c.ResponderCertificates != h.ResponderCertificates || c.Corrections != h.Corrections || c.ClosedPins != h.ClosedPins) {
			return true
		}
	}
	return false
}

// vouched is up to when a checkpoint says that a copy at the head's position was
// all there was; zero: no checkpoint does. Those that cannot matter any more are
// forgotten.
//
// Rows may be some seconds ahead of the newest checkpoint, never for long: a
// position that the master has still not reached minutes later was made up here.
func (s *signed) vouched(h db.Head, now time.Time) time.Time {
	s.compare(h, now)
	var best *vouch
	known := s.knows(h.Epoch)
	kept := s.heads[:0]
	for _, c := range s.heads {
		switch {
		case c.Epoch < h.Epoch && known:
		case c.Epoch < h.Epoch: // who says that the head's epoch is one?
			kept = append(kept, c)
		case c.Epoch > h.Epoch || c.Position > h.Position:
			kept = append(kept, c)
		case c.Position < h.Position && s.ahead != 0 && c.AsOf.After(s.since.Add(db.MaxClockSkew)):
		case best == nil || c.AsOf.After(best.AsOf):
			best = &c
		}
	}
	s.heads = kept
	if best == nil {
		return time.Time{}
	}
	s.heads = append(s.heads, *best)
	return best.AsOf
}

// compare notes whether the rows are ahead of the checkpoints, and since when.
func (s *signed) compare(h db.Head, now time.Time) {
	var newest int64
	for _, c := range s.heads {
		if c.Epoch == h.Epoch {
			newest = max(newest, c.Position)
		}
	}
	switch {
	case h.Position <= newest:
		s.ahead = 0
	case s.ahead == 0 || newest >= s.ahead:
		s.ahead, s.since = h.Position, now
	}
}
