package index

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"ocspfleet/db"
)

// maxAwaited bounds the checkpoints of positions that the rows have not reached.
const maxAwaited = 64

// signed is what is known of the feed's checkpoints: up to when the master vouched
// for the copy. The rows and the head are as true as whoever writes the site's
// database; how fresh they are, only a signature says.
type signed struct {
	note, keys []byte    // looked at last
	heads      []db.Head // verified; one at most of a position that the copy has reached
	fault      string    // what is wrong with the newest note; empty: nothing

	// ahead is a position of the rows that no checkpoint had reached at since, by this
	// machine's clock; 0: the checkpoints are as far as the rows.
	ahead int64
	since time.Time
}

// readSigned takes up the newest checkpoint of the snapshot.
func (x *Index) readSigned(ctx context.Context, l *db.Look) {
	if x.cfg.Verify == nil {
		return
	}
	note, keys := l.SignedNote, l.SignedKeys
	if note == nil || bytes.Equal(note, x.signed.note) && bytes.Equal(keys, x.signed.keys) {
		return
	}
	x.signed.note, x.signed.keys = note, keys
	head, err := x.cfg.Verify(note, keys)
	if err != nil {
		if text := err.Error(); text != x.signed.fault {
			x.signed.fault = text
			x.log.ErrorContext(ctx, "checkpoint is not believed", slog.String("error", text))
		}
		return
	}
	x.signed.fault = ""
	x.signed.heads = append(x.signed.heads, head)
	if extra := len(x.signed.heads) - maxAwaited; extra > 0 {
		x.signed.heads = x.signed.heads[extra:]
	}
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
	var best *db.Head
	kept := s.heads[:0]
	for _, c := range s.heads {
		switch {
		case c.Epoch < h.Epoch:
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
