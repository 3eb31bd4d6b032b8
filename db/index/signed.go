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

// vouch is a checkpoint: its head, and the note, which counts only while the newest key set
// admits it.
type vouch struct {
	db.Head
	note []byte
}

// signed is the known key sets and checkpoints of the feed: up to when the master signed for
// the copy. An attacker in the site's database can change the rows and the head; only a
// signature proves how fresh they are, and that a revocation was wrong.
type signed struct {
	notes, keys [][]byte // read last
	valid       bool     // one of keys is a valid set
	trust       Trust    // of the newest valid set
	heads       []vouch
	fault       string // what is wrong with the newest note or key set; empty: nothing

	// ahead is a position of the rows that no checkpoint had reached at since, by this
	// machine's clock; 0: the checkpoints have reached the rows.
	ahead int64
	since time.Time
}

// readSigned reads the newest key set and checkpoint of the snapshot.
func (x *Index) readSigned(ctx context.Context, l *sitedb.ReadTx) {
	if x.cfg.Trust == nil {
		return
	}
	s := &x.signed
	if !s.valid || !slices.EqualFunc(l.SignedKeys, s.keys, bytes.Equal) {
		s.keys, s.notes = l.SignedKeys, nil
		trust, err := x.cfg.Trust(l.SignedKeys)
		if s.valid = err == nil; !s.valid { // corrections are checked by the previous set, if there was one
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

// judgeAgain removes the checkpoints that the newest key set does not admit. The horizon from
// them stays, and ages from now on, until there is another.
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
	if now := x.cfg.Now(); x.held.AsOf.After(now) { // a time in the future
		x.held.AsOf = now
	}
}

// fallsBehind says whether a head is behind the position that this copy has reached. Going back
// to an earlier epoch is allowed only if the present one was a false entry in the head: no
// checkpoint has it but one has the earlier epoch, or, where no checkpoint is required, the
// earlier epoch is the one followed before.
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

// reached is the position that no later snapshot may be behind: the adopted one, as far as a
// checkpoint that the newest key set admits confirms it.
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

// goesBack refuses a checkpoint whose audit is shorter than in an earlier one of its epoch.
func (s *signed) goesBack(h db.Head) error {
	for _, v := range s.heads {
		if v.Epoch == h.Epoch && v.Position <= h.Position && !h.AsOf.Before(v.AsOf) && h.AuditCount < v.AuditCount {
			return fmt.Errorf("its audit has %d entries, it had %d", h.AuditCount, v.AuditCount)
		}
	}
	return nil
}

// wantsCheckpoint says whether only a checkpoint can make the copy count as fresh.
func (x *Index) wantsCheckpoint() bool {
	return x.cfg.Trust != nil && (x.signed.trust.Corrections == nil || x.signed.trust.Checkpoint != nil)
}

// differs says whether a checkpoint of exactly the head's position differs from the head.
func (s *signed) differs(h db.Head) bool {
	for _, c := range s.heads {
		if c.Epoch == h.Epoch && c.Position == h.Position &&
			(c.Certificates != h.Certificates || c.Issuers != h.Issuers || c.ResponderCertificates != h.ResponderCertificates || c.Corrections != h.Corrections || c.ClosedPins != h.ClosedPins) {
			return true
		}
	}
	return false
}

// vouched is up to when a checkpoint says that a copy at the head's position was complete;
// zero: no checkpoint does. Checkpoints that cannot matter any more are removed.
//
// Rows may be some seconds ahead of the newest checkpoint, never for long: a position that the
// master has still not reached minutes later was forged here.
func (s *signed) vouched(h db.Head, now time.Time) time.Time {
	s.compare(h, now)
	var best *vouch
	known := s.knows(h.Epoch)
	kept := s.heads[:0]
	for _, c := range s.heads {
		switch {
		case c.Epoch < h.Epoch && known:
		case c.Epoch < h.Epoch: // the head's epoch may be a false entry
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

// compare records whether the rows are ahead of the checkpoints, and since when.
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
