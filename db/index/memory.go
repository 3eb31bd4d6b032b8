package index

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// memory is the permanent revocations that the site's database remembers and the copy has lost.
// It survives this process: the copy keeps what an adopted snapshot had, and memory finds what
// the first snapshot lacks.
type memory struct {
	seq     uint64              // read up to it
	issuers []db.Issuer         // the issuers of lost
	lost    []sitedb.Remembered // what the adopted rows lack, without a correction
	text    string              // the text about it; empty: nothing is lost
}

// readMemory reads what was remembered since the last check, or everything if all rows are
// read.
func (x *Index) readMemory(ctx context.Context, l *sitedb.ReadTx, s *snapshot) (err error) {
	s.memory = x.memory
	if s.all != nil {
		s.memory = memory{}
	}
	if s.memory.issuers, err = l.RememberedIssuers(ctx); err != nil {
		return err
	}
	return s.readRemembered(ctx, l)
}

func (s *snapshot) readRemembered(ctx context.Context, l *sitedb.ReadTx) error {
	return l.Remembered(ctx, s.memory.seq, func(r sitedb.Remembered) error {
		s.memory.seq = max(s.memory.seq, r.Seq)
		s.remembered = append(s.remembered, r)
		return nil
	})
}

// checkMemory finds which remembered revocations would be lost with the snapshot: of those lost
// before, and of the new ones.
func (x *Index) checkMemory(s *snapshot) {
	candidates := slices.Concat(s.memory.lost, s.remembered)
	s.memory.lost, s.memory.text = nil, ""
	if len(candidates) == 0 {
		return
	}
	a := x.adoption(s)
	a.Held = db.Lists{Issuers: s.memory.issuers}
	moved := map[db.IssuerID]bool{}
	for _, i := range a.MovedIssuers() {
		moved[i.ID] = true
	}
	changed := map[string]row{}
	for _, c := range s.changes {
		changed[string(c.key)] = c.next
	}
	var why error
	for _, r := range candidates {
		key := appendKey(nil, r.IssuerID, r.Serial)
		next, known := changed[string(key)]
		switch {
		case moved[r.IssuerID]:
			next = nil
		case s.table != nil:
			next, _ = s.table.find(key)
		case !known:
			next, _ = x.table.Load().find(key)
		}
		if err := a.Certificate(r.IssuerID, r.Serial, &r.Status, next.statusIf()); err != nil {
			s.memory.lost = append(s.memory.lost, r)
			if why == nil {
				why = err
			}
		}
	}
	if why != nil {
		s.memory.text = fmt.Sprintf("divergence: the database has lost %d permanent revocations that this site remembers, and answers: %v: restore them at the master (ocspctl fleet lost)", len(s.memory.lost), why)
	}
}

// recall makes look-ups find the lost revocations; without any, only the rows count.
func (x *Index) recall(lost ...sitedb.Remembered) {
	if len(lost) == 0 {
		x.recalled.Store(nil)
		return
	}
	all := make(map[string]db.Status, len(lost))
	for _, r := range lost { // the latest of each certificate
		status := r.Status
		status.Changed = r.Seq
		if key := string(appendKey(nil, r.IssuerID, r.Serial)); all[key].Changed <= r.Seq {
			all[key] = status
		}
	}
	x.recalled.Store(&all)
}

// remember publishes the lost revocations, logs new losses and keeps the memory.
func (x *Index) remember(ctx context.Context, m memory) {
	x.recall(m.lost...)
	if m.text != "" && m.text != x.memory.text {
		x.log.ErrorContext(ctx, "revocations are lost and remembered", slog.String("error", m.text))
	}
	x.memory = m
}
