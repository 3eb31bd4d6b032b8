package index

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

const (
	// maxChanges is how many changes are read one by one; for more, reading all rows is faster.
	maxChanges = 250_000
	// maxDoubtful is the same while snapshots are refused: a refused one is read again at each
	// check.
	maxDoubtful = 10_000
)

// mode is how many rows a check may read.
type mode int

const (
	changesOnly mode = iota // changes only; return if that is not enough
	asNeeded                // changes, or all rows if that is not enough
	everything
)

// read fills the snapshot: the lists that changed, and the changed certificates or all.
func (x *Index) read(ctx context.Context, l *sitedb.ReadTx, s *snapshot, m mode) error {
	s.needs = x.needsAll(l)
	if m != everything && s.needs == "" {
		limit := maxChanges
		if m == changesOnly {
			limit = maxDoubtful
		}
		if err := x.readChanges(ctx, l, s, limit); err != nil {
			return err
		}
	}
	if s.needs != "" && m == changesOnly {
		return nil
	}
	all := m == everything || s.needs != ""
	if all {
		s.needs = ""
		if err := readAll(ctx, l, s); err != nil {
			return err
		}
	}
	var err error
	if s.lists, err = readLists(ctx, l, x.lists.Load(), all); err != nil {
		return err
	}
	return x.readMemory(ctx, l, s)
}

// needsAll says why the changes since the last check are not enough.
func (x *Index) needsAll(l *sitedb.ReadTx) string {
	switch {
	case x.table.Load() == nil:
		return "nothing was loaded yet"
	case !l.Started.Equal(x.started):
		return "the local PostgreSQL was restarted"
	case x.seq < l.TrimmedTo:
		return "the changes since the last look were trimmed"
	case l.LastSeq < x.seq:
		return "the numbers of changes went back"
	}
	return ""
}

// readChanges reads the changes one by one, and computes the tally that the table would have
// with them. The table is not touched.
func (x *Index) readChanges(ctx context.Context, l *sitedb.ReadTx, s *snapshot, limit int) error {
	s.tally = x.held.Certificates
	if l.LastSeq == x.seq {
		return nil
	}
	pending := map[string]row{} // nil: deleted
	more, err := l.Changes(ctx, x.seq, limit, func(c sitedb.CertificateChange) error {
		key, r, err := packChange(c)
		if err == nil {
			pending[string(key)] = r
		}
		return err
	})
	if err != nil {
		return err
	}
	if more {
		s.needs = fmt.Sprintf("more than %d rows changed at once", limit)
		return nil
	}
	t := x.table.Load()
	var buf []byte
	for key, next := range pending {
		c := change{key: []byte(key), next: next}
		var found bool
		if c.prev, found = t.find(c.key); found {
			buf = c.prev.canonical(buf[:0])
			s.tally.Remove(buf)
		}
		if next != nil {
			buf = next.canonical(buf[:0])
			s.tally.Add(buf)
		}
		if c.prev != nil || c.next != nil {
			s.changes = append(s.changes, c)
		}
	}
	return nil
}

// packChange returns the packed key and the packed row, nil when it was deleted.
func packChange(c sitedb.CertificateChange) (key []byte, r row, err error) {
	if c.Deleted {
		issuer, serial, err := db.ParseCertificateKey(c.Content)
		if err != nil {
			return nil, nil, err
		}
		return appendKey(nil, issuer, serial), nil, nil
	}
	r, err = pack(nil, c.Seq, c.Content)
	if err != nil {
		return nil, nil, err
	}
	return r.key(), r, nil
}

func pack(dst []byte, seq uint64, canonical []byte) (row, error) {
	issuer, serial, status, err := db.ParseCertificate(canonical)
	if err != nil {
		return nil, err
	}
	status.Changed = seq
	return appendRow(dst, issuer, serial, status)
}

// readAll collects all rows in a builder. The tally is computed over the octets that the
// database sent.
func readAll(ctx context.Context, l *sitedb.ReadTx, s *snapshot) error {
	b := newBuilder(int(max(0, min(l.Head.Certificates.Count, 1<<27)))) // a wrong head must not use up the memory
	s.tally = db.Tally{}
	var buf [maxRowLen]byte
	err := l.Certificates(ctx, func(seq uint64, canonical []byte) error {
		s.tally.Add(canonical)
		r, err := pack(buf[:0], seq, canonical)
		if err == nil {
			b.add(r)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.all, s.changes = b, nil
	return nil
}

// readLists reads the small tables again, each only if its tally in the head changed, or if all
// is set.
func readLists(ctx context.Context, l *sitedb.ReadTx, held *lists, all bool) (*lists, error) {
	next := *held
	var buf []byte
	var err error
	if all || held.issuerTally != l.Head.Issuers {
		if next.issuers, err = l.Issuers(ctx); err != nil {
			return nil, err
		}
		next.issuerTally = db.Tally{}
		for _, i := range next.issuers {
			buf = db.AppendIssuer(buf[:0], i)
			next.issuerTally.Add(buf)
		}
	}
	if all || held.responderTally != l.Head.ResponderCertificates {
		if next.responders, err = l.ResponderCertificates(ctx); err != nil {
			return nil, err
		}
		next.responderTally = db.Tally{}
		for _, r := range next.responders {
			buf = db.AppendResponderCertificate(buf[:0], r)
			next.responderTally.Add(buf)
		}
	}
	if all || held.correctionTally != l.Head.Corrections {
		next.corrections, next.correctionTally = nil, db.Tally{}
		err := l.Corrections(ctx, func(c db.Correction) error {
			buf = db.AppendCorrection(buf[:0], c)
			next.correctionTally.Add(buf)
			next.corrections = append(next.corrections, c)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if all || held.closedTally != l.Head.ClosedPins {
		if next.closedTally, err = l.ClosedPins(ctx); err != nil {
			return nil, err
		}
	}
	return &next, nil
}
