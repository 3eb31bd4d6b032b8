package index

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// memory is what the site's database remembers of permanent revocations, as far as the
// copy has lost them. It outlives this process: what a snapshot that was adopted knows is
// kept from then on by the copy itself, and what it does not know is found here.
type memory struct {
	seq     uint64              // read up to it
	issuers []db.Issuer         // whose they are
	lost    []sitedb.Remembered // what the adopted rows take back, without a correction
	text    string              // what is said of them; empty: nothing is lost
}

// readMemory reads what was remembered since the last look, all of it if all rows are
// read anew.
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

// checkMemory finds which of the remembered revocations would be lost with the snapshot:
// those that the rows were missing before, and those that are new.
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

// recall has look-ups find what is lost; nothing: what the rows say alone.
func (x *Index) recall(lost ...sitedb.Remembered) {
	if len(lost) == 0 {
		x.recalled.Store(nil)
		return
	}
	all := make(map[string]db.Status, len(lost))
	for _, r := range lost { // of one certificate the latest
		status := r.Status
		status.Changed = r.Seq
		if key := string(appendKey(nil, r.IssuerID, r.Serial)); all[key].Changed <= r.Seq {
			all[key] = status
		}
	}
	x.recalled.Store(&all)
}

// remember ends what was lost before the snapshot and is not any more.
func (x *Index) remember(ctx context.Context, m memory) {
	x.recall(m.lost...)
	if m.text != "" && m.text != x.memory.text {
		x.log.ErrorContext(ctx, "revocations are lost and remembered", slog.String("error", m.text))
	}
	x.memory = m
}
